// SPDX-License-Identifier: GPL-2.0

//! Function codes, parameter lists, return codes and interrupt buffers, as the guest sees them.
//!
//! All parameter lists and interrupt buffers are 40 bytes, big-endian. Layouts: `net/iucv/iucv.c`.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

use thiserror::Error;
use zerocopy::byteorder::big_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{MessageId, PathId, ProgramInterruption};

/// The size of a parameter list and of an interrupt buffer, in bytes.
pub const PLIST_LENGTH: usize = 40;
/// A parameter list or an interrupt buffer, undecoded.
pub type Raw = [u8; PLIST_LENGTH];

/// Addresses in parameter lists have 31 bits.
pub const ADDRESS_LIMIT: u64 = 1 << 31;

/// The functions of the IUCV instruction, with their codes in general register 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Function {
    /// Size of the interrupt buffer and number of connections.
    Query = 0,
    /// Are there messages or replies?
    TestMessage = 1,
    /// No interrupts on this CPU any longer.
    RetrieveBuffer = 2,
    /// What is the next message?
    Describe = 3,
    /// Sends a message.
    Send = 4,
    /// Takes a message's data.
    Receive = 5,
    /// Replies to a two-way message.
    Reply = 6,
    /// Is a message complete?
    TestCompletion = 7,
    /// Refuses a message.
    Reject = 8,
    /// Takes a message back.
    Purge = 9,
    /// Accepts a connection.
    Accept = 10,
    /// Connects to a user or to a service of CP.
    Connect = 11,
    /// Declares this CPU's interrupt buffer.
    DeclareBuffer = 12,
    /// No messages on a path, please.
    Quiesce = 13,
    /// Messages again.
    Resume = 14,
    /// Ends a path.
    Sever = 15,
    /// Which interrupts this CPU takes.
    SetMask = 16,
    /// Which control interrupts this CPU takes.
    SetControlMask = 17,
}

impl Function {
    /// All of them, by code.
    pub const ALL: [Self; 18] = [
        Self::Query,
        Self::TestMessage,
        Self::RetrieveBuffer,
        Self::Describe,
        Self::Send,
        Self::Receive,
        Self::Reply,
        Self::TestCompletion,
        Self::Reject,
        Self::Purge,
        Self::Accept,
        Self::Connect,
        Self::DeclareBuffer,
        Self::Quiesce,
        Self::Resume,
        Self::Sever,
        Self::SetMask,
        Self::SetControlMask,
    ];

    /// Whether general register 1 is not the address of a parameter list.
    #[must_use]
    pub const fn is_without_plist(self) -> bool {
        matches!(self, Self::Query | Self::TestMessage | Self::RetrieveBuffer)
    }
}

impl TryFrom<u64> for Function {
    type Error = ProgramInterruption;

    fn try_from(r0: u64) -> Result<Self, ProgramInterruption> {
        usize::try_from(r0)
            .ok()
            .and_then(|code| Self::ALL.get(code))
            .copied()
            .ok_or(ProgramInterruption::Specification)
    }
}

/// Checks the address of a parameter list: on a doubleword, all of it in storage and below 2 GiB.
pub fn check_address(address: u64, storage_bytes: u64) -> Result<(), ProgramInterruption> {
    if !address.is_multiple_of(8) {
        return Err(ProgramInterruption::Specification);
    }
    match address.checked_add(PLIST_LENGTH as u64) {
        Some(end) if end <= storage_bytes.min(ADDRESS_LIMIT) => Ok(()),
        _ => Err(ProgramInterruption::Addressing),
    }
}

/// `ipflags1`: several bits have one meaning in one function and another in the next.
#[derive(
    Clone, Copy, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// None set.
    pub const NONE: Self = Self(0);
    /// Data in the parameter list: this message has it; on a path: I can take it.
    pub const IN_LIST: Self = Self(0x80);
    /// SEVER: all paths.
    pub const ALL: Self = Self(0x80);
    /// CONNECT, ACCEPT: no messages until RESUME.
    pub const QUIESCED: Self = Self(0x40);
    /// SEND, RECEIVE: the buffer is a list of addresses and lengths.
    pub const BUFFER_LIST: Self = Self(0x40);
    /// A priority message; on a path: I want to send such.
    pub const PRIORITY: Self = Self(0x20);
    /// A one-way message.
    pub const ONE_WAY: Self = Self(0x10);
    /// SEND, REPLY: the answer's buffer is a list of addresses and lengths.
    pub const ANSWER_LIST: Self = Self(0x08);
    /// A message ID is given.
    pub const BY_MESSAGE: Self = Self(0x04);
    /// A path ID is given.
    pub const BY_PATH: Self = Self(0x02);
    /// A message class is given.
    pub const BY_CLASS: Self = Self(0x01);
    /// CONNECT: the target must be on this system.
    pub const LOCAL: Self = Self(0x01);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// `self` if `condition` holds, else none.
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for Flags {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#04x})", self.0)
    }
}

/// `iprcode`, with condition code 1: why a function was not carried out.
///
/// The codes up to 21 are those of VM/SP; 22 to 26, about lists of buffers, came later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[repr(u8)]
pub enum ReturnCode {
    /// There is no such path, or it is not in the state that the function needs.
    #[error("invalid path ID")]
    InvalidPath = 1,
    /// The other side has quiesced the path.
    #[error("path quiesced: no sends allowed")]
    Quiesced = 2,
    /// As many messages as the path allows are outstanding.
    #[error("message limit exceeded")]
    MessageLimit = 3,
    /// The path was not made for priority messages.
    #[error("priority messages not allowed on this path")]
    NoPriority = 4,
    /// The area is too short for the message or reply; as much as fits has been stored.
    #[error("receive or answer area too short")]
    TooShort = 5,
    /// The other side's buffer is not in its storage.
    #[error("addressing exception on the other side's buffer")]
    PartnerAddressing = 7,
    /// The message has another class.
    #[error("message found but its class is another")]
    InvalidClass = 8,
    /// The sender has taken the message back.
    #[error("message has been purged")]
    Purged = 9,
    /// A length has its sign bit on.
    #[error("message length is negative")]
    NegativeLength = 10,
    /// CONNECT to a user that is not logged on.
    #[error("target is not logged on")]
    NotLoggedOn = 11,
    /// CONNECT to a user that does not use IUCV.
    #[error("target has not declared an interrupt buffer")]
    NotDeclared = 12,
    /// This user has as many paths as it may.
    #[error("maximum number of connections exceeded")]
    TooManyConnections = 13,
    /// The target has as many paths as it may.
    #[error("maximum number of connections of the target exceeded")]
    TargetTooManyConnections = 14,
    /// The directory does not allow it.
    #[error("no authorization found")]
    NotAuthorized = 15,
    /// No such service of CP.
    #[error("invalid CP system service name")]
    InvalidService = 16,
    /// DCLBFR on a CPU that has a buffer.
    #[error("a buffer has been declared already")]
    AlreadyDeclared = 19,
    /// ACCEPT of a path whose originator has severed it.
    #[error("the originator has severed the path")]
    OriginatorSevered = 20,
    /// The other side does not take data in the parameter list.
    #[error("parameter list data not allowed on this path")]
    NoListData = 21,
    /// A list of buffers that is not on a doubleword boundary.
    #[error("buffer list not on a doubleword boundary")]
    ListAlignment = 22,
    /// A list of buffers that is not in storage.
    #[error("buffer list outside of storage")]
    ListAddressing = 23,
    /// A list of buffers with a negative length.
    #[error("negative length in a buffer list")]
    ListNegativeLength = 24,
    /// A list of buffers that ends before the total length.
    #[error("buffer list does not add up to the total length")]
    ListTotal = 25,
    /// Data in the parameter list together with a list of buffers.
    #[error("parameter list data together with a buffer list")]
    ListWithListData = 26,
}

/// `ipaudit`: what happened to a message, in the first 16 of 24 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Audit(pub u16);

impl Audit {
    /// Nothing special.
    pub const CLEAN: Self = Self(0);
    /// The reply was too long for the answer buffer.
    pub const REPLY_TOO_LONG: Self = Self(0x8000);
    /// The send buffer was not in storage.
    pub const SEND_ADDRESSING: Self = Self(0x2000);
    /// The answer buffer was not in storage.
    pub const ANSWER_ADDRESSING: Self = Self(0x0800);
    /// The message was rejected.
    pub const REJECTED: Self = Self(0x0400);
    /// The path was severed.
    pub const SEVERED: Self = Self(0x0008);

    /// The three bytes of a parameter list; an interrupt buffer has a zero after them.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 3] {
        let [high, low] = self.0.to_be_bytes();
        [high, low, 0]
    }
}

macro_rules! forty_bytes {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }

        impl $name {
            /// Decodes 40 bytes; every pattern is valid.
            #[must_use]
            pub fn decode(raw: &Raw) -> Self {
                zerocopy::transmute!(*raw)
            }

            /// Encodes into 40 bytes.
            #[must_use]
            pub fn encode(&self) -> Raw {
                zerocopy::transmute!(*self)
            }

            /// All zero.
            #[must_use]
            pub fn zeroed() -> Self {
                Self::decode(&[0; PLIST_LENGTH])
            }

            /// The path ID.
            #[must_use]
            pub fn path_id(&self) -> PathId {
                PathId(self.path.get())
            }
        }
    )*};
}

forty_bytes! {
    /// The parameter list of CONNECT, ACCEPT, QUIESCE, RESUME and SEVER.
    Control {
        /// `ippathid`.
        path: U16,
        /// `ipflags1`.
        flags: Flags,
        /// `iprcode`.
        rcode: u8,
        /// `ipmsglim`.
        message_limit: U16,
        /// `ipfcncd` of VM/SP; Linux passes 0.
        service_function: [u8; 2],
        /// `ipvmid`, EBCDIC.
        user_id: [u8; 8],
        /// `ipuser`: for the programs at both ends, nothing to CP.
        user_data: [u8; 16],
        /// `iptarget`: the target's system, EBCDIC.
        target: [u8; 8],
    }

    /// The parameter list of SEND, RECEIVE, REPLY, REJECT, DESCRIBE and DCLBFR.
    Message {
        /// `ippathid`.
        path: U16,
        /// `ipflags1`.
        flags: Flags,
        /// `iprcode`.
        rcode: u8,
        /// `ipmsgid`.
        message: U32,
        /// `iptrgcls`.
        target_class: U32,
        /// `ipbfadr1`; with [`Flags::IN_LIST`], the first half of `iprmmsg`.
        address: U32,
        /// `ipbfln1f`; with [`Flags::IN_LIST`], the second half of `iprmmsg`.
        length: U32,
        /// `ipsrccls`.
        source_class: U32,
        /// `ipmsgtag`.
        tag: U32,
        /// `ipbfadr2`.
        answer_address: U32,
        /// `ipbfln2f`.
        answer_length: U32,
        /// Nothing.
        reserved: U32,
    }

    /// The parameter list of PURGE and TESTCMPL, and interrupts 06 and 07: a message is complete.
    Complete {
        /// `ippathid`.
        path: U16,
        /// `ipflags1`.
        flags: Flags,
        /// `iprcode` or `iptype`.
        rcode: u8,
        /// `ipmsgid`.
        message: U32,
        /// `ipaudit`.
        audit: [u8; 3],
        /// Nothing.
        reserved1: u8,
        /// `iprmmsg`: the reply, with [`Flags::IN_LIST`].
        list_data: [u8; 8],
        /// `ipsrccls`.
        source_class: U32,
        /// `ipmsgtag`.
        tag: U32,
        /// Nothing.
        reserved2: U32,
        /// `ipbfln2f`: what is left of the answer buffer; or of the reply, with [`Audit::REPLY_TOO_LONG`].
        answer_length: U32,
        /// `ippollfg` and 3 bytes of nothing.
        poll: [u8; 4],
    }

    /// Interrupts 01 to 05: something happened to a path.
    PathInterrupt {
        /// `ippathid`.
        path: U16,
        /// `ipflags1`: of the other side (01, 02).
        flags: Flags,
        /// `iptype`.
        kind: u8,
        /// `ipmsglim` (01, 02).
        message_limit: U16,
        /// Nothing.
        reserved1: [u8; 2],
        /// `ipvmid`: who wants to connect (01), EBCDIC.
        user_id: [u8; 8],
        /// `ipuser`.
        user_data: [u8; 16],
        /// Nothing.
        reserved2: U32,
        /// `ippollfg` and 3 bytes of nothing.
        poll: [u8; 4],
    }

    /// Interrupts 08 and 09: a message is pending.
    PendingMessage {
        /// `ippathid`.
        path: U16,
        /// `ipflags1`: [`Flags::IN_LIST`], [`Flags::PRIORITY`], [`Flags::ONE_WAY`].
        flags: Flags,
        /// `iptype`.
        kind: u8,
        /// `ipmsgid`.
        message: U32,
        /// `iptrgcls`.
        target_class: U32,
        /// `iprmmsg`: the message, with [`Flags::IN_LIST`]; else a word of nothing and `ipbfln1f`.
        list_data: [u8; 8],
        /// Nothing.
        reserved: [u8; 12],
        /// `ipbfln2f`: the length of the answer buffer.
        answer_length: U32,
        /// `ippollfg` and 3 bytes of nothing.
        poll: [u8; 4],
    }
}

impl Message {
    /// `iprmmsg`: the data in the list.
    #[must_use]
    pub fn list_data(&self) -> [u8; 8] {
        (u64::from(self.address.get()) << 32 | u64::from(self.length.get())).to_be_bytes()
    }

    /// Sets `iprmmsg`.
    pub fn set_list_data(&mut self, data: [u8; 8]) {
        let [a, b, c, d, e, f, g, h] = data;
        self.address = U32::from_bytes([a, b, c, d]);
        self.length = U32::from_bytes([e, f, g, h]);
    }

    /// The message ID.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        MessageId(self.message.get())
    }
}

impl Complete {
    /// The message ID.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        MessageId(self.message.get())
    }
}

impl PendingMessage {
    /// The message ID.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        MessageId(self.message.get())
    }

    /// The length of the message: 8 if it is in the list.
    #[must_use]
    pub fn length(&self) -> u32 {
        if self.flags.has(Flags::IN_LIST) {
            return 8;
        }
        let [_, _, _, _, a, b, c, d] = self.list_data;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The offset of `iprcode` and `iptype` in all of them.
pub const RCODE_OFFSET: usize = 3;

/// The mask byte, first in the parameter list of SETMASK and SETCMASK.
#[must_use]
pub const fn mask_byte(raw: &Raw) -> u8 {
    raw[0]
}

/// `iptype`: the kinds of interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum InterruptKind {
    /// Someone wants to connect.
    PendingConnection = 1,
    /// The target has accepted.
    ConnectionComplete = 2,
    /// The other side has ended the path.
    Severed = 3,
    /// The other side wants no messages.
    Quiesced = 4,
    /// The other side wants messages again.
    Resumed = 5,
    /// A message that I sent is complete, by a priority reply.
    PriorityComplete = 6,
    /// A message that I sent is complete.
    Complete = 7,
    /// A priority message is for me.
    PriorityPending = 8,
    /// A message is for me.
    Pending = 9,
}

impl InterruptKind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::PendingConnection,
        Self::ConnectionComplete,
        Self::Severed,
        Self::Quiesced,
        Self::Resumed,
        Self::PriorityComplete,
        Self::Complete,
        Self::PriorityPending,
        Self::Pending,
    ];

    /// The kind of an interrupt buffer.
    #[must_use]
    pub fn of(raw: &Raw) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|&kind| kind as u8 == raw[RCODE_OFFSET])
    }

    /// Whether it is about a path rather than a message.
    #[must_use]
    pub const fn is_control(self) -> bool {
        (self as u8) <= Self::Resumed as u8
    }
}

/// The path that an interrupt buffer is about.
#[must_use]
pub const fn path_of(raw: &Raw) -> PathId {
    PathId(u16::from_be_bytes([raw[0], raw[1]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn functions_have_the_codes_of_linux() {
        for (code, function) in Function::ALL.into_iter().enumerate() {
            assert_eq!(function as usize, code);
            assert_eq!(Function::try_from(code as u64), Ok(function));
        }
        for code in [18, 255, u64::from(u32::MAX) + 1, u64::MAX] {
            assert_eq!(
                Function::try_from(code),
                Err(ProgramInterruption::Specification)
            );
        }
    }

    #[test]
    fn layouts_are_those_of_linux() {
        let mut raw: Raw = std::array::from_fn(|i| i as u8);
        let control = Control::decode(&raw);
        assert_eq!(control.path_id(), PathId(0x0001));
        assert_eq!((control.flags, control.rcode), (Flags(2), 3));
        assert_eq!(control.message_limit.get(), 0x0405);
        assert_eq!(control.user_id, [8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(control.user_data[0], 0x10);
        assert_eq!(control.target[0], 0x20);

        let message = Message::decode(&raw);
        assert_eq!(message.message.get(), 0x0405_0607);
        assert_eq!(message.target_class.get(), 0x0809_0a0b);
        assert_eq!(message.address.get(), 0x0c0d_0e0f);
        assert_eq!(message.length.get(), 0x1011_1213);
        assert_eq!(
            message.list_data(),
            [0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x11, 0x12, 0x13]
        );
        assert_eq!(message.source_class.get(), 0x1415_1617);
        assert_eq!(message.tag.get(), 0x1819_1a1b);
        assert_eq!(message.answer_address.get(), 0x1c1d_1e1f);
        assert_eq!(message.answer_length.get(), 0x2021_2223);

        let complete = Complete::decode(&raw);
        assert_eq!(complete.audit, [8, 9, 10]);
        assert_eq!(complete.list_data[0], 0x0c);
        assert_eq!(complete.source_class.get(), 0x1415_1617);
        assert_eq!(complete.tag.get(), 0x1819_1a1b);
        assert_eq!(complete.answer_length.get(), 0x2021_2223);
        assert_eq!(complete.poll[0], 0x24);

        let path = PathInterrupt::decode(&raw);
        assert_eq!(path.user_id[0], 0x08);
        assert_eq!(path.user_data[0], 0x10);
        assert_eq!(path.poll[0], 0x24);

        raw[2] = 0;
        let pending = PendingMessage::decode(&raw);
        assert_eq!(pending.target_class.get(), 0x0809_0a0b);
        assert_eq!(pending.length(), 0x1011_1213);
        assert_eq!(pending.answer_length.get(), 0x2021_2223);
        assert_eq!(InterruptKind::of(&raw), Some(InterruptKind::Severed));
    }

    #[test]
    fn plist_addresses_are_checked() {
        use ProgramInterruption::{Addressing, Specification};
        let storage = 1 << 20;
        assert_eq!(check_address(0, storage), Ok(()));
        assert_eq!(check_address(storage - 40, storage), Ok(()));
        assert_eq!(check_address(storage - 32, storage), Err(Addressing));
        assert_eq!(check_address(4, storage), Err(Specification));
        assert_eq!(check_address(!7, storage), Err(Addressing));
        assert_eq!(check_address(ADDRESS_LIMIT, 1 << 40), Err(Addressing));
    }

    proptest! {
        #[test]
        fn every_pattern_round_trips(raw: [[u8; 20]; 2], data: [u8; 8]) {
            let mut plist = [0; PLIST_LENGTH];
            plist.copy_from_slice(raw.as_flattened());
            prop_assert_eq!(Control::decode(&plist).encode(), plist);
            prop_assert_eq!(Complete::decode(&plist).encode(), plist);
            prop_assert_eq!(PathInterrupt::decode(&plist).encode(), plist);
            prop_assert_eq!(PendingMessage::decode(&plist).encode(), plist);
            let mut message = Message::decode(&plist);
            prop_assert_eq!(message.encode(), plist);
            message.set_list_data(data);
            prop_assert_eq!(message.list_data(), data);
        }
    }
}
