//! Names of certificates as text (RFC 2253, the way OpenSSL's `XN_FLAG_RFC2253` writes them).

use std::io::Write as _;

use x509_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Short names of attributes in OpenSSL.
const SHORT: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.45", "x500UniqueIdentifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// Appends a name, the most specific attribute first.
pub(super) fn append(name: &X509Name<'_>, out: &mut Vec<u8>) -> bool {
    let parts: Vec<_> = name.iter_rdn().collect();
    for (at, part) in parts.iter().rev().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let attributes: Vec<_> = part.iter().collect();
        for (at, value) in attributes.iter().rev().enumerate() {
            if at > 0 {
                out.push(b'+');
            }
            attribute(value, out);
        }
    }
    true
}

fn attribute(attribute: &AttributeTypeAndValue<'_>, out: &mut Vec<u8>) {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    out.extend_from_slice(short.unwrap_or(&oid).as_bytes());
    out.push(b'=');
    let value = attribute.attr_value();
    let text = match value.header.tag() {
        _ if short.is_none() => None,
        Tag::BmpString => Some(utf16(value.data)),
        Tag::Utf8String => Some(String::from_utf8_lossy(value.data).into_owned()),
        Tag::PrintableString
        | Tag::Ia5String
        | Tag::T61String
        | Tag::NumericString
        | Tag::VisibleString => Some(value.data.iter().map(|byte| char::from(*byte)).collect()),
        _ => None,
    };
    match text {
        Some(text) => escape(&text, out),
        None => dump(value.header.tag(), value.data, out),
    }
}

fn utf16(data: &[u8]) -> String {
    let units = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Writes a text with `\` before what is special, and `\XX` for what is not printable ASCII.
fn escape(text: &str, out: &mut Vec<u8>) {
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        let special = match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => true,
            b'#' => at == 0,
            b' ' => at == 0 || at == last,
            _ => false,
        };
        if special {
            out.extend_from_slice(&[b'\\', byte]);
        } else if (0x20..0x7f).contains(&byte) {
            out.push(byte);
        } else {
            // Writing to memory does not fail.
            let _ = write!(out, "\\{byte:02X}");
        }
    }
}

/// Writes `#` and the value's DER in hexadecimal digits.
fn dump(tag: Tag, data: &[u8], out: &mut Vec<u8>) {
    out.push(b'#');
    let _ = write!(out, "{:02X}", tag.0);
    let length = data.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    if data.len() >= 0x80 {
        let _ = write!(out, "{:02X}", 0x80 | length.len());
    }
    let length = if data.is_empty() { &[0] } else { length };
    for byte in length.iter().chain(data) {
        let _ = write!(out, "{byte:02X}");
    }
}
