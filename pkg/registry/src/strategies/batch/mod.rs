//! Jobs.

pub(crate) mod cron_job;
pub(crate) mod job;
mod job_policies;
mod schedule;
