//! The elements of our encodings: variable-length numbers, byte strings, and a reader that trusts nothing.

use bytes::Bytes;
use thiserror::Error;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end in the middle.
    #[error("the bytes end in the middle of a {0}")]
    Truncated(&'static str),
    /// Bytes are left after the end.
    #[error("{0} bytes are left after the end")]
    TrailingBytes(usize),
    /// A number is longer than ten bytes or above 64 bits.
    #[error("a number does not fit in 64 bits")]
    NumberTooLarge,
    /// The format is of a later version than this program knows.
    #[error("format version {0} is not known to this version of Tenure")]
    UnknownVersion(u8),
    /// A tag or a flag has no meaning.
    #[error("{1} is no {0}")]
    UnknownTag(&'static str, u8),
    /// Transactions are nested too deep.
    #[error("transactions are nested too deep")]
    TooDeep,
    /// A name is no UTF-8.
    #[error("a name is no UTF-8")]
    NotUtf8,
}

/// Seven bits a byte, lowest first, the top bit saying that more follow.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Signed numbers near zero are short in either direction: 0, -1, 1, -2 become 0, 1, 2, 3.
pub(crate) fn put_signed(value: i64, out: &mut Vec<u8>) {
    put_varint(((value << 1) ^ (value >> 63)) as u64, out);
}

pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Takes elements from the front of some bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    /// The memory that `rest` lies in, if byte strings taken from it may share it.
    source: Option<&'a Bytes>,
}

impl<'a> Reader<'a> {
    /// Byte strings that are taken share the memory of `source`.
    pub(crate) fn sharing(source: &'a Bytes) -> Self {
        Self { rest: source, source: Some(source) }
    }

    /// Byte strings that are taken have memory of their own.
    pub(crate) fn copying(rest: &'a [u8]) -> Self {
        Self { rest, source: None }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let (&byte, rest) = self.rest.split_first().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(*array)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (at, &byte) in self.rest.iter().enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for the last bit of 64.
            if at > 9 || (at == 9 && bits > 1) {
                return Err(DecodeError::NumberTooLarge);
            }
            value |= bits << (7 * at);
            if byte < 0x80 {
                self.rest = &self.rest[at + 1..];
                return Ok(value);
            }
        }
        Err(DecodeError::Truncated("number"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn slice(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.varint()?;
        let split = usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length));
        let (slice, rest) = split.ok_or(DecodeError::Truncated("byte string"))?;
        self.rest = rest;
        Ok(slice)
    }

    /// A byte string. A length beyond the end allocates nothing.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let slice = self.slice()?;
        Ok(self.source.map_or_else(|| Bytes::copy_from_slice(slice), |source| source.slice_ref(slice)))
    }

    pub(crate) fn string(&mut self) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(self.slice()?).map_err(|_| DecodeError::NotUtf8)?;
        Ok(text.to_owned())
    }

    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes(left)),
        }
    }
}
