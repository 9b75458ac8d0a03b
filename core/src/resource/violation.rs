//! Why a resource was refused, in the words of APISIX's JSON Schema validator.

use std::fmt;

/// The first rule that a resource breaks.
///
/// `{}` prints the text that APISIX prints, so that tools which match on it keep working. `{:#}`
/// adds what APISIX leaves out, such as why no alternative of a choice matched; logs use it.
#[derive(Debug, Clone, PartialEq)]
pub enum Violation {
    /// A field's value is wrong.
    Property {
        /// Field name.
        name: String,
        /// What is wrong with it.
        cause: Box<Violation>,
    },
    /// An array's item is wrong.
    Item {
        /// Position, counted from 1.
        position: usize,
        /// What is wrong with it.
        cause: Box<Violation>,
    },
    /// A value in an open map (`labels`) is wrong.
    Entry {
        /// The map's key.
        key: String,
        /// What is wrong with its value.
        cause: Box<Violation>,
    },
    /// A field that needs or excludes others (`dependencies`) is set without that.
    Dependent {
        /// Field name.
        name: String,
        /// What is wrong with the others.
        cause: Box<Violation>,
    },
    /// The value has another JSON type.
    WrongType {
        /// Required type.
        expected: &'static str,
        /// The type found, by its Lua name.
        found: &'static str,
    },
    /// A field that the resource does not have.
    Additional(String),
    /// A field is missing.
    Missing(&'static str),
    /// The string has fewer characters than allowed.
    TooShort {
        /// Allowed.
        min: usize,
        /// Found.
        found: usize,
    },
    /// The string has more characters than allowed.
    TooLong {
        /// Allowed.
        max: usize,
        /// Found.
        found: usize,
    },
    /// The number is below the minimum.
    AtLeast {
        /// Found.
        found: String,
        /// Allowed.
        min: i64,
    },
    /// The number is above the maximum.
    AtMost {
        /// Found.
        found: String,
        /// Allowed.
        max: i64,
    },
    /// The number must be greater than zero.
    Positive {
        /// Found.
        found: String,
    },
    /// The string does not have the required form.
    Pattern {
        /// The regular expression that states the form.
        pattern: &'static str,
        /// Found.
        found: String,
    },
    /// The value is none of the allowed ones.
    NotInEnum {
        /// The allowed values.
        allowed: &'static [&'static str],
        /// Found.
        found: String,
    },
    /// The array is too short.
    TooFewItems(usize),
    /// The object has too many fields.
    TooManyProperties(usize),
    /// Two items of an array are equal; positions counted from 1.
    Duplicate(usize, usize),
    /// The value matches no alternative of a choice (`anyOf`).
    NoAlternative {
        /// The sets of fields of which one is required; empty when the choice is about the form.
        required: &'static [&'static [&'static str]],
        /// Why the alternative that comes closest failed.
        cause: Option<Box<Violation>>,
    },
    /// None, or more than one, of a group of exclusive fields is set (`oneOf`).
    Exclusive {
        /// Number of the failed group within the schema's `allOf`, when it has several.
        group: Option<usize>,
        /// The fields.
        fields: [&'static str; 2],
        /// Whether both are set; otherwise none is.
        both: bool,
    },
    /// A combination that the schema forbids (`not`).
    Forbidden(&'static str),
    /// Valid for APISIX, but this version of Osmia cannot do it.
    Unsupported(String),
    /// Any other rule.
    Rule(String),
}

impl Violation {
    /// Wraps the violation with the field it was found in.
    #[must_use]
    pub fn at(self, name: &str) -> Self {
        Self::Property { name: name.to_owned(), cause: Box::new(self) }
    }

    /// Wraps the violation with the array item it was found in, `index` counted from 0.
    #[must_use]
    pub fn at_item(self, index: usize) -> Self {
        Self::Item { position: index + 1, cause: Box::new(self) }
    }

    /// Whether it is, at last, that fields exclude each other: a rule whose text in APISIX names
    /// none of them.
    pub fn is_about_exclusion(&self) -> bool {
        match self.cause() {
            Some(cause) => cause.is_about_exclusion(),
            None => matches!(self, Self::Exclusive { .. }),
        }
    }

    fn cause(&self) -> Option<&Violation> {
        match self {
            Self::Property { cause, .. }
            | Self::Item { cause, .. }
            | Self::Entry { cause, .. }
            | Self::Dependent { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl std::error::Error for Violation {}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property { name, .. } => write!(f, "property \"{name}\" validation failed: ")?,
            Self::Item { position, .. } => write!(f, "failed to validate item {position}: ")?,
            Self::Entry { key, .. } => {
                write!(f, "failed to validate {key} (matching \".*\"): ")?;
            }
            Self::Dependent { name, .. } => {
                write!(f, "failed to validate dependent schema for \"{name}\": ")?;
            }
            other => other.fmt_leaf(f)?,
        }
        self.cause().map_or(Ok(()), |cause| fmt::Display::fmt(cause, f))
    }
}

impl Violation {
    fn fmt_leaf(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongType { expected, found } => {
                write!(f, "wrong type: expected {expected}, got {found}")
            }
            Self::Additional(name) => write!(f, "additional properties forbidden, found {name}"),
            Self::Missing(name) => write!(f, "property \"{name}\" is required"),
            Self::TooShort { min, found } => {
                write!(f, "string too short, expected at least {min}, got {found}")
            }
            Self::TooLong { max, found } => {
                write!(f, "string too long, expected at most {max}, got {found}")
            }
            Self::AtLeast { found, min } => write!(f, "expected {found} to be at least {min}"),
            Self::AtMost { found, max } => write!(f, "expected {found} to be at most {max}"),
            Self::Positive { found } => write!(f, "expected {found} to be greater than 0"),
            Self::Pattern { pattern, found } => {
                write!(f, "failed to match pattern \"{pattern}\" with \"{found}\"")
            }
            Self::TooFewItems(min) => write!(f, "expect array to have at least {min} items"),
            Self::TooManyProperties(max) => {
                write!(f, "expect object to have at most {max} properties")
            }
            Self::Duplicate(a, b) => {
                write!(f, "expected unique items but items {a} and {b} are equal")
            }
            Self::Unsupported(what) => write!(f, "{what} is not supported yet by this version"),
            Self::Rule(text) => f.write_str(text),
            _ => self.fmt_choice(f),
        }
    }

    /// The rules where APISIX's text alone does not help an operator.
    fn fmt_choice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(what) => {
                f.write_str("value wasn't supposed to match schema")?;
                if f.alternate() {
                    write!(f, " ({what} is not allowed)")?;
                }
            }
            Self::NotInEnum { allowed, found } => {
                f.write_str("matches none of the enum values")?;
                if f.alternate() {
                    write!(f, " (found \"{found}\", allowed: {})", allowed.join(", "))?;
                }
            }
            Self::NoAlternative { required, cause } => {
                f.write_str("object matches none of the required")?;
                for (index, fields) in required.iter().enumerate() {
                    let separator = if index == 0 { ": " } else { " or " };
                    write!(f, "{separator}[\"{}\"]", fields.join("\",\""))?;
                }
                if let (true, Some(cause)) = (f.alternate(), cause) {
                    write!(f, " ({cause:#})")?;
                }
            }
            Self::Exclusive { group, fields: [a, b], both } => {
                if let Some(group) = group {
                    write!(f, "allOf {group} failed: ")?;
                }
                f.write_str("value should match only one schema, but matches ")?;
                f.write_str(if *both { "both schemas 1 and 2" } else { "none" })?;
                if f.alternate() {
                    let state = if *both { "both are set" } else { "neither is set" };
                    write!(f, " (exactly one of \"{a}\" and \"{b}\" is required, {state})")?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
