// SPDX-License-Identifier: GPL-2.0

//! Messages as bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ProtoError;
use crate::wire::{Hello, PROTOCOL_VERSION};

/// The size of the largest message, in bytes: well below the default send buffer of a socket (208 KiB), so that
/// one packet always fits.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Encodes a message.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, ProtoError> {
    let bytes = postcard::to_stdvec(message)?;
    if bytes.len() > MAX_MESSAGE {
        return Err(ProtoError::TooLong {
            length: bytes.len(),
            limit: MAX_MESSAGE,
        });
    }
    Ok(bytes)
}

/// Decodes a message, which must take up all of `bytes`.
///
/// What it allocates is bounded by the length of `bytes`: a length inside a message that exceeds the rest is an error.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, ProtoError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(ProtoError::TooLong {
            length: bytes.len(),
            limit: MAX_MESSAGE,
        });
    }
    match postcard::take_from_bytes(bytes)? {
        (message, []) => Ok(message),
        (_, rest) => Err(ProtoError::TrailingBytes(rest.len())),
    }
}

/// Decodes a [`Hello`]. Its version is judged before the rest is looked at, since that may differ between versions.
pub(crate) fn decode_hello(bytes: &[u8]) -> Result<Hello, ProtoError> {
    let (theirs, _): (u32, _) = postcard::take_from_bytes(bytes)?;
    if theirs != PROTOCOL_VERSION {
        return Err(ProtoError::Version { theirs });
    }
    decode(bytes)
}
