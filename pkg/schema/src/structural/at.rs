//! The way from the root of an object to a place in it, linked through the stack: its text is only written for what is wrong.

use kedge_meta::field::Path;

/// Things that are named at most.
pub(super) const MAX_NAMED: usize = 100;
/// Characters of a name that are shown in a path.
const MAX_NAME: usize = 256;
/// Fields of an object that all kinds have.
pub(super) const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    pub(super) fn field(parent: Option<&'a At<'a>>, name: &'a str) -> Self {
        // What is shown of a name: keys of maps can be as long as the object.
        let shown = name.char_indices().nth(MAX_NAME).map_or(name, |(end, _)| &name[..end]);
        Self { parent, step: Step::Field(shown) }
    }

    pub(super) fn index(parent: Option<&'a At<'a>>, index: usize) -> Self {
        Self { parent, step: Step::Index(index) }
    }

    fn steps(&self) -> Vec<Step<'a>> {
        let mut steps = vec![self.step];
        let mut place = self.parent;
        while let Some(at) = place {
            steps.push(at.step);
            place = at.parent;
        }
        steps.reverse();
        steps
    }

    pub(super) fn path(&self) -> Path {
        self.steps().into_iter().fold(Path::default(), |path, step| match step {
            Step::Field(name) => path.child(name),
            Step::Index(at) => path.index(at),
        })
    }
}

/// The path of a place; none for the root.
pub(super) fn path(at: Option<&At<'_>>) -> Path {
    at.map_or_else(Path::default, At::path)
}
