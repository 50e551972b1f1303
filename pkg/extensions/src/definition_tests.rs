//! What is made of definitions.
