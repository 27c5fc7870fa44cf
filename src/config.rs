//! From command line, environment and file to checked [`crate::settings::Settings`].
