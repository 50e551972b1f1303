//! Which images lie on how many nodes.

use std::collections::HashMap;

/// An image as the cluster's nodes report it.
#[derive(Debug, Clone)]
pub struct Image {
    name: String,
    /// Bytes, as last reported.
    pub size: i64,
    pub nodes: usize,
}

/// All images, each with a small number in place of its name.
#[derive(Debug, Default)]
pub struct Images {
    slots: Vec<Image>,
    free: Vec<usize>,
    by_name: HashMap<String, usize>,
}

impl Images {
    /// Counts an image on a node; returns its number.
    pub fn add(&mut self, name: &str, size: i64) -> usize {
        if let Some(id) = self.by_name.get(name).copied() {
            self.slots[id].nodes += 1;
            self.slots[id].size = size;
            return id;
        }
        let image = Image { name: name.to_owned(), size, nodes: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id] = image;
                id
            }
            None => {
                self.slots.push(image);
                self.slots.len() - 1
            }
        };
        self.by_name.insert(name.to_owned(), id);
        id
    }

    /// Takes back an [`add`](Self::add).
    pub fn remove(&mut self, id: usize) {
        let image = &mut self.slots[id];
        image.nodes = image.nodes.saturating_sub(1);
        if image.nodes == 0 {
            self.by_name.remove(&std::mem::take(&mut image.name));
            self.free.push(id);
        }
    }

    /// Number and image of that name, if a node has it.
    pub fn get(&self, name: &str) -> Option<(usize, &Image)> {
        let id = *self.by_name.get(name)?;
        Some((id, &self.slots[id]))
    }
}
