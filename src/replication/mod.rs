//! Placeholder until the core is here.
#[cfg(test)]
mod sim;
