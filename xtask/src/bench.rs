//! Figures of one node.

pub fn run(_args: &[String]) -> anyhow::Result<()> {
    Ok(())
}
