//! Writes JSON quickly: an answer is mostly sightings, and serde_json looks at
//! every byte of them, the names of fields too.
//!
//! What is written is what serde_json writes, as far as the types of an answer
//! go; floating-point numbers and maps are not among them.

use serde::ser::{Error as _, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};
use serde_json::Error;

/// Writes `value` as JSON, after what is in `json`.
///
/// # Errors
/// When it holds something of which no answer consists: a floating-point number,
/// bytes, a map, a tuple, or a variant with contents.
pub(crate) fn write(json: &mut Vec<u8>, value: &impl Serialize) -> Result<(), Error> {
    value.serialize(Writer(json))
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    /// Text that needs no escaping.
    fn quoted(self, text: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(b'"');
    }

    fn plain(self, text: &str) -> Result<(), Error> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// An object or a list that is being written.
struct Compound<'a> {
    json: &'a mut Vec<u8>,
    /// What stands before the next member.
    before: u8,
    end: u8,
}

impl<'a> Compound<'a> {
    const fn new(json: &'a mut Vec<u8>, start: u8, end: u8) -> Self {
        Self { json, before: start, end }
    }

    fn next(&mut self) {
        self.json.push(self.before);
        self.before = b',';
    }

    fn close(mut self, start: u8) {
        if self.before == start {
            self.next();
        }
        self.json.push(self.end);
    }
}

impl SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.next();
        value.serialize(Writer(self.json))
    }

    fn end(self) -> Result<(), Error> {
        self.close(b'[');
        Ok(())
    }
}

impl SerializeStruct for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        // A name in a program needs no escaping.
        self.json.extend_from_slice(&[self.before, b'"']);
        self.json.extend_from_slice(key.as_bytes());
        self.json.extend_from_slice(b"\":");
        self.before = b',';
        value.serialize(Writer(self.json))
    }

    fn end(self) -> Result<(), Error> {
        self.close(b'{');
        Ok(())
    }
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Impossible<(), Error>;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        if is_plain(text) {
            self.quoted(text);
            return Ok(());
        }
        // As a rule it has lines, and nothing else that is escaped.
        self.0.push(b'"');
        for (number, line) in text.split('\n').enumerate() {
            if number > 0 {
                self.0.extend_from_slice(b"\\n");
            }
            if is_plain(line) {
                self.0.extend_from_slice(line.as_bytes());
            } else {
                let line = serde_json::to_vec(line)?;
                self.0.extend_from_slice(line.get(1..line.len() - 1).unwrap_or_default());
            }
        }
        self.0.push(b'"');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'a>, Error> {
        Ok(Compound::new(self.0, b'[', b']'))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'a>, Error> {
        Ok(Compound::new(self.0, b'{', b'}'))
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.plain(if value { "true" } else { "false" })
    }

    fn serialize_u64(self, number: u64) -> Result<(), Error> {
        // As a rule it is the one sighting, or one row.
        match u8::try_from(number) {
            Ok(digit) if digit < 10 => self.0.push(b'0' + digit),
            _ => return self.plain(&number.to_string()),
        }
        Ok(())
    }

    fn serialize_i64(self, number: i64) -> Result<(), Error> {
        self.plain(&number.to_string())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.plain("null")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.quoted(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_i8(self, number: i8) -> Result<(), Error> {
        self.serialize_i64(number.into())
    }

    fn serialize_i16(self, number: i16) -> Result<(), Error> {
        self.serialize_i64(number.into())
    }

    fn serialize_i32(self, number: i32) -> Result<(), Error> {
        self.serialize_i64(number.into())
    }

    fn serialize_u8(self, number: u8) -> Result<(), Error> {
        self.serialize_u64(number.into())
    }

    fn serialize_u16(self, number: u16) -> Result<(), Error> {
        self.serialize_u64(number.into())
    }

    fn serialize_u32(self, number: u32) -> Result<(), Error> {
        self.serialize_u64(number.into())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Error> {
        refused()
    }

    fn serialize_f64(self, _: f64) -> Result<(), Error> {
        refused()
    }

    fn serialize_char(self, _: char) -> Result<(), Error> {
        refused()
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<(), Error> {
        refused()
    }

    fn serialize_unit(self) -> Result<(), Error> {
        refused()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        refused()
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Error> {
        refused()
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Error> {
        refused()
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        refused()
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        refused()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        refused()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        refused()
    }
}

/// Whether JSON escapes nothing of it.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let Some(last) = bytes.last_chunk() else {
        return !bytes.iter().any(|b| *b < b' ' || matches!(b, b'"' | b'\\'));
    };
    // Eight are looked at at once, the last of them once more.
    let (chunks, _) = bytes.as_chunks();
    chunks.iter().fold(odd(last), |all, chunk| all | odd(chunk)) & every(0x80) == 0
}

/// Has the highest bit of some byte set if one of `chunk` is escaped: taking a bound
/// from each, what is below it borrows, unless its highest bit was set before.
/// With one bit turned, `"` stands next to the controls.
const fn odd(chunk: &[u8; 8]) -> u64 {
    let bytes = u64::from_ne_bytes(*chunk);
    let control_or_quote = (bytes ^ every(b'"' ^ b' ')).wrapping_sub(every(b' ' + 1));
    let backslash = (bytes ^ every(b'\\')).wrapping_sub(every(1));
    (control_or_quote | backslash) & !bytes
}

const fn every(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

fn refused<T>() -> Result<T, Error> {
    Err(Error::custom("no answer holds such a thing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize)]
    enum Word {
        Plain,
        #[serde(rename = "an other")]
        Other,
    }

    #[derive(serde::Serialize)]
    struct Id(u32);

    #[derive(serde::Serialize)]
    struct Empty {}

    #[derive(serde::Serialize)]
    struct Answer {
        #[serde(skip_serializing_if = "Option::is_none")]
        left_out: Option<Id>,
        #[serde(rename = "type")]
        kind: Word,
        other: Word,
        text: String,
        small: Option<i8>,
        is: bool,
    }

    fn to_vec(value: &impl Serialize) -> Result<Vec<u8>, Error> {
        let mut json = Vec::new();
        write(&mut json, value).map(|()| json)
    }

    /// What serde_json does is the rule.
    fn agree(value: &impl Serialize) {
        assert_eq!(to_vec(value).unwrap(), serde_json::to_vec(value).unwrap());
    }

    #[test]
    fn what_is_written_is_what_serde_json_writes() {
        let every: String = ('\0'..='\u{250}').chain("  𝄞\u{FFFF}".chars()).collect();
        let texts =
            every.chars().map(String::from).chain(["".into(), "plain".into(), every.clone()]);
        agree(&texts.collect::<Vec<String>>());
        agree(&vec![Some(Id(0)), None, Some(Id(u32::MAX))]);
        agree(&vec![i64::MIN, -1, i64::MAX]);
        agree(&vec![0, 9, 10, u64::MAX]);
        agree(&vec![vec![Empty {}, Empty {}], vec![]]);
        agree(&Answer {
            left_out: None,
            kind: Word::Plain,
            other: Word::Other,
            text: "a".into(),
            small: Some(-8),
            is: true,
        });
    }

    #[test]
    fn what_no_answer_holds_is_refused() {
        assert!(to_vec(&1.5).is_err() && to_vec(&(1, 2)).is_err() && to_vec(&()).is_err());
        assert!(to_vec(&std::collections::BTreeMap::from([("a", 1)])).is_err());
    }
}
