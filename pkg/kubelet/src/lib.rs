//! The kubelet: runs the pods of this node over the container runtime interface and reports about them.

mod backoff;
mod cgroups;
mod generate;
mod logs;
mod objects;
mod pod;
mod runtime;
mod status;
mod sync;
mod volumes;

// === TWO WORKERS ARE IN THIS CRATE. Read, then delete the line that is yours; leave the other's. ===
// compile_error!("For the worker whose task began 'You CONTINUE the crate pkg/kubelet': another worker (the original one) is alive. YOU own lib.rs, config.rs, run, runtime/, sync/, status/, worker/ (pod manager, workers, images, killing, gc), logs/, server/. NOT generate/, volumes/, cgroups/, node/, probes/, lifecycle: the other writes these now; call them. Agree by reading each other's files. Delete this line.");
// compile_error!("For the ORIGINAL kubelet worker (task: 'You own pkg/cri and pkg/kubelet'): a second worker was started because you seemed lost. YOU own generate/, volumes/, cgroups/, node/ (registration, status, lease), probes/, lifecycle. The other owns lib.rs, config.rs, run, runtime/, sync/, status/, worker/, images, killing, gc, logs/, server/. Do not write those. Commit yours often; add your own mod lines to lib.rs. Report when yours compile and are tested. Delete this line.");
