//! Reads `TWINCACHED_*`: the option's long name in capitals with `_` for `-`.
//!
//! A name that is nearly an option's is refused, because a misspelt password file must not start
//! an open server; one that is nothing like an option is only mentioned, because other programs
//! use the prefix too (Kubernetes describes a service called `twincached` that way).

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::options::{Opt, options};
use super::values::nearest;
use super::{Reading, Refusal};

const PREFIX: &str = "TWINCACHED_";
const CONFIG: &str = "TWINCACHED_CONFIG";

/// memcached's own names and the options they stand for; ours are stronger.
const INHERITED: [(&str, &str); 2] =
    [("MEMCACHED_PORT_FILENAME", "port-file"), ("MEMCACHED_SASL_PWDB", "sasl-pwdb")];

/// What the environment says.
pub(super) struct Environment {
    pub(super) config: Option<PathBuf>,
    pub(super) reading: Reading,
    pub(super) warnings: Vec<String>,
}

pub(super) fn name_of(option: &Opt) -> String {
    format!("{PREFIX}{}", option.long.replace('-', "_").to_ascii_uppercase())
}

pub(super) fn read(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Environment, Refusal> {
    let mut ours = BTreeMap::new();
    for (name, value) in env {
        let is_ours = |name: &&str| {
            name.starts_with(PREFIX) || INHERITED.iter().any(|(inherited, _)| inherited == name)
        };
        let Some(name) = name.to_str().filter(is_ours) else { continue };
        let value = value.into_string().map_err(|value| {
            Refusal::bad(format!("{name} was given {value:?}; allowed: text in UTF-8"))
        })?;
        ours.insert(name.to_owned(), value);
    }
    let mut warnings = Vec::new();
    ours.retain(|name, value| {
        let address = name == "TWINCACHED_PORT" && value.contains("://");
        if address {
            warnings.push(format!("{name}={value} describes a service and is not read as --port"));
        }
        !address
    });

    let config = ours.remove(CONFIG).map(PathBuf::from);
    let inherited = INHERITED.map(|(name, option)| (option, ours.remove(name)));
    let mut reading = Reading::new();
    for option in options() {
        let inherited = inherited.iter().find(|(name, _)| *name == option.long);
        let inherited = inherited.and_then(|(_, value)| value.clone());
        if let Some(value) = ours.remove(&name_of(option)).or(inherited) {
            reading.push((option, option.split(&value)));
        }
    }
    for (name, value) in ours {
        let known: Vec<String> = options().map(name_of).collect();
        let candidates = known.iter().map(String::as_str).chain([CONFIG]);
        if let Some(meant) = nearest(&name, candidates) {
            return Err(Refusal::bad(format!(
                "{name} (given \"{value}\") is no option; allowed: TWINCACHED_ and an option of \
                 --help; did you mean {meant}?"
            )));
        }
        warnings.push(format!("{name} is no option and is ignored"));
    }
    Ok(Environment { config, reading, warnings })
}
