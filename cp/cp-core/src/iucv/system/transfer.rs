// SPDX-License-Identifier: GPL-2.0

//! Buffers in guests' storage, and data moving between them.

use thiserror::Error;

use crate::UserId;
use crate::iucv::plist::{ADDRESS_LIMIT, ReturnCode};

/// An address outside of a virtual machine's storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("addressing exception: outside of the virtual machine's storage")]
pub struct Addressing;

/// The storages of all virtual machines, from address 0 on without holes.
///
/// The guests run while CP copies: a read may see any mix of old and new bytes, as on the machine.
pub trait Memory {
    /// Reads from a guest's storage; all of it or nothing.
    fn read(&self, user: &UserId, address: u64, bytes: &mut [u8]) -> Result<(), Addressing>;

    /// Writes to a guest's storage; all of it or nothing.
    fn write(&mut self, user: &UserId, address: u64, bytes: &[u8]) -> Result<(), Addressing>;

    /// Whether a range is in a guest's storage.
    fn check(&self, user: &UserId, address: u64, length: u64) -> Result<(), Addressing> {
        let Some(more) = length.checked_sub(1) else {
            return Ok(());
        };
        let last = address.checked_add(more).ok_or(Addressing)?;
        let mut byte = [0];
        self.read(user, address, &mut byte)?;
        self.read(user, last, &mut byte)
    }
}

/// More than any list that adds up to something needs; stops the walk through one that does not.
const MAX_LIST: usize = 1024;
/// The size of one entry: address and length, a word each.
const LIST_ENTRY: u64 = 8;

/// A buffer as a parameter list names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Buffer {
    /// Of the data, or of a list of addresses and lengths.
    pub address: u32,
    /// Of the data in total.
    pub length: u32,
    /// Whether `address` is that of a list.
    pub list: bool,
}

/// A run of storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    address: u64,
    length: u64,
}

/// What is wrong with a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BufferError {
    /// The data is not in storage.
    Addressing,
    /// The list is bad.
    List(ReturnCode),
}

impl From<Addressing> for BufferError {
    fn from(Addressing: Addressing) -> Self {
        Self::Addressing
    }
}

impl Buffer {
    /// `None` if the length is negative.
    pub fn new(address: u32, length: u32, list: bool) -> Result<Self, ReturnCode> {
        if u64::from(length) >= ADDRESS_LIMIT {
            return Err(ReturnCode::NegativeLength);
        }
        Ok(Self {
            address,
            length,
            list,
        })
    }

    /// The storage of `length` bytes from `skip` on, which is all checked to be there.
    pub fn segments(
        self,
        memory: &impl Memory,
        user: &UserId,
        skip: u32,
        length: u32,
    ) -> Result<Vec<Segment>, BufferError> {
        let all = if self.list {
            self.read_list(memory, user, u64::from(skip) + u64::from(length))?
        } else {
            vec![Segment {
                address: self.address.into(),
                length: self.length.into(),
            }]
        };
        let segments = cut(&all, skip.into(), length.into());
        for segment in &segments {
            if segment.address + segment.length > ADDRESS_LIMIT {
                return Err(BufferError::Addressing);
            }
            memory.check(user, segment.address, segment.length)?;
        }
        Ok(segments)
    }

    /// Reads the list as far as it is needed for `length` bytes.
    fn read_list(
        self,
        memory: &impl Memory,
        user: &UserId,
        length: u64,
    ) -> Result<Vec<Segment>, BufferError> {
        if !u64::from(self.address).is_multiple_of(LIST_ENTRY) {
            return Err(BufferError::List(ReturnCode::ListAlignment));
        }
        let mut segments = Vec::new();
        let mut total = 0;
        for index in 0..MAX_LIST as u64 {
            if total >= length {
                return Ok(segments);
            }
            let at = u64::from(self.address) + index * LIST_ENTRY;
            if at + LIST_ENTRY > ADDRESS_LIMIT {
                return Err(BufferError::List(ReturnCode::ListAddressing));
            }
            let mut entry = [0; LIST_ENTRY as usize];
            memory
                .read(user, at, &mut entry)
                .map_err(|Addressing| BufferError::List(ReturnCode::ListAddressing))?;
            let entry = u64::from_be_bytes(entry);
            let segment = Segment {
                address: entry >> 32,
                length: entry & u64::from(u32::MAX),
            };
            if segment.length >= ADDRESS_LIMIT {
                return Err(BufferError::List(ReturnCode::ListNegativeLength));
            }
            total += segment.length;
            segments.push(segment);
        }
        if total >= length {
            return Ok(segments);
        }
        Err(BufferError::List(ReturnCode::ListTotal))
    }
}

/// The part of `segments` from `skip` on, `length` bytes long.
fn cut(segments: &[Segment], mut skip: u64, mut length: u64) -> Vec<Segment> {
    let mut part = Vec::new();
    for segment in segments {
        let skipped = skip.min(segment.length);
        skip -= skipped;
        let taken = length.min(segment.length - skipped);
        length -= taken;
        if taken > 0 {
            part.push(Segment {
                address: segment.address + skipped,
                length: taken,
            });
        }
    }
    part
}

/// How much is copied at once.
const CHUNK: usize = 4096;

/// Copies between storages; both lists of segments are equally long and checked.
pub(super) fn copy(
    memory: &mut impl Memory,
    from: &UserId,
    source: &[Segment],
    to: &UserId,
    destination: &[Segment],
) -> Result<(), Addressing> {
    let mut chunk = [0; CHUNK];
    let mut destination = destination.iter().copied();
    let mut room = Segment {
        address: 0,
        length: 0,
    };
    for segment in source {
        let mut rest = *segment;
        while rest.length > 0 {
            if room.length == 0 {
                room = destination.next().ok_or(Addressing)?;
            }
            let length = rest.length.min(room.length).min(CHUNK as u64);
            let bytes = &mut chunk[..length as usize];
            memory.read(from, rest.address, bytes)?;
            memory.write(to, room.address, bytes)?;
            for run in [&mut rest, &mut room] {
                run.address += length;
                run.length -= length;
            }
        }
    }
    Ok(())
}

/// Copies CP's own data into a storage; the segments are as long as it and checked.
pub(super) fn store(
    memory: &mut impl Memory,
    mut bytes: &[u8],
    to: &UserId,
    destination: &[Segment],
) -> Result<(), Addressing> {
    for segment in destination {
        let (now, later) = bytes
            .split_at_checked(segment.length as usize)
            .ok_or(Addressing)?;
        memory.write(to, segment.address, now)?;
        bytes = later;
    }
    Ok(())
}
