//! The ini lines of README.md, so that what it tells people to copy is what the stories run on.
//!
//! A section of README.md starts with the lines that everybody needs; each block after that says
//! what changes for some, and is found by the words that lead to it.

const README: &str = include_str!("../README.md");

/// The ini lines of one section of README.md.
pub(crate) struct Section {
    text: &'static str,
}

impl Section {
    /// The section under `heading`.
    ///
    /// # Panics
    /// When README.md has none, as the other functions do for what they look for.
    pub(crate) fn under(heading: &str) -> Section {
        let (_, rest) = README.split_once(&format!("\n### {heading}")).expect("the section");
        Section { text: rest.split("\n#").next().unwrap() }
    }

    /// The lines that everybody needs.
    pub(crate) fn first(&self) -> Lines {
        Lines::opening(self.text)
    }

    /// The first lines that are for another program than PHP.
    pub(crate) fn block(&self, language: &str) -> Lines {
        Lines::in_language(language, self.text)
    }

    /// The lines behind the paragraph that begins with `lead`.
    pub(crate) fn behind(&self, lead: &str) -> Lines {
        let (_, rest) = self.text.split_once(&format!("\n{lead}")).expect("the paragraph");
        Lines::opening(rest)
    }
}

/// Some ini lines.
pub(crate) struct Lines(pub(crate) String);

impl Lines {
    fn opening(text: &str) -> Lines {
        Lines::in_language("ini", text)
    }

    fn in_language(language: &str, text: &str) -> Lines {
        let (_, block) = text.split_once(&format!("```{language}\n")).expect("the block");
        Lines(block.split_once("```").expect("its end").0.to_owned())
    }

    /// Puts what is `real` in place of README.md's `example`, which must be there once.
    pub(crate) fn with(self, example: &str, real: &str) -> Lines {
        let Lines(lines) = self;
        assert_eq!(
            lines.matches(example).count(),
            1,
            "README.md names {example} once in:\n{lines}"
        );
        Lines(lines.replace(example, real))
    }
}
