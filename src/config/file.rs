//! Reads the TOML file: its keys are the long option names, its values numbers, texts, booleans,
//! lists, and for `extended` also a table. Everything becomes the texts a command line would
//! carry, so that one grammar serves both. Writes it, too, for `--dump-config`.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

use super::options::{Opt, Takes, options};
use super::values::nearest;
use super::{Reading, Refusal};

pub(super) fn read(path: &Path) -> Result<Reading, Refusal> {
    let at = path.display();
    let text = fs::read_to_string(path).map_err(|error| {
        Refusal::bad(format!("--config {at}: {error}; allowed: a readable TOML file"))
    })?;
    let mut table = text.parse::<Table>().map_err(|error| {
        Refusal::bad(format!("{at} is not TOML: {}", error.to_string().trim_end()))
    })?;
    let mut reading = Reading::new();
    for option in options() {
        let Some(value) = table.remove(option.long) else { continue };
        let texts = texts(option, &value).ok_or_else(|| {
            let allowed = match option.takes {
                Takes::Octal(_) => "a number in quotes, which is read as octal",
                Takes::List(_) => "a text or a list of texts",
                Takes::Suboptions => "a text, a list of texts or a table",
                _ => option.allowed,
            };
            Refusal::bad(format!("{at}: {} was given {value}; allowed: {allowed}", option.long))
        })?;
        reading.push((option, texts));
    }
    if let Some((key, value)) = table.iter().next() {
        let known = options().map(|option| option.long);
        let hint = nearest(key, known).map_or(String::new(), |k| format!("; did you mean {k}?"));
        return Err(Refusal::bad(format!(
            "{at}: {key} (given {value}) is no option; allowed: the long names of --help{hint}"
        )));
    }
    Ok(reading)
}

/// The texts a command line would carry for `value`; `None` when no command line could.
fn texts(option: &Opt, value: &Value) -> Option<Vec<String>> {
    match (&option.takes, value) {
        // 0o700 and 700 would reach us as different numbers: only the digits as written are safe.
        (Takes::Octal(_), Value::Integer(_)) => None,
        (Takes::List(_) | Takes::Suboptions, Value::Array(list)) => {
            list.iter().map(scalar).collect()
        }
        (Takes::Suboptions, Value::Table(table)) => {
            table.iter().map(|(name, value)| Some(format!("{name}={}", scalar(value)?))).collect()
        }
        _ => Some(option.split(&scalar(value)?)),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// The line of a config file that says what `option` is. A default is a comment: given, it could
/// contradict another option that it would otherwise follow.
pub(super) fn line(option: &Opt, given: Option<&(Vec<String>, &'static str)>) -> String {
    let value = |text: &str| match option.takes {
        Takes::Flag => Value::Boolean(super::values::yes(text) == Some(true)).to_string(),
        Takes::Octal(_) | Takes::List(_) | Takes::Suboptions => Value::from(text).to_string(),
        Takes::Count | Takes::Value(_) => text
            .parse::<i64>()
            .map(|number| Value::from(number).to_string())
            .unwrap_or_else(|_| Value::from(text).to_string()),
    };
    let key = option.long;
    match given {
        None if option.default.is_empty() => format!("# {key} =\n"),
        None => format!("# {key} = {} # default\n", value(option.default)),
        Some((texts, source)) => match option.takes {
            Takes::List(_) | Takes::Suboptions => {
                let texts: Vec<String> = texts.iter().map(|text| value(text)).collect();
                format!("{key} = [{}] # {source}\n", texts.join(", "))
            }
            _ => {
                let last = texts.last().map_or("", String::as_str);
                format!("{key} = {} # {source}\n", value(last))
            }
        },
    }
}
