//! Layer 0: what every Kubernetes object has, without knowing any kind.
//!
//! Group/version/kind and resource names, object keys and metadata, label and field selectors, quantities, name rules,
//! field errors, and `metav1.Status`. Invariant: nothing here does I/O or knows a transport.

mod cidr;
pub mod field;
pub mod fields;
mod gvk;
pub mod labels;
pub mod names;
mod objectmeta;
pub mod quantity;
pub mod regexp;
pub mod resources;
mod status;
mod stringmap;
mod text;
mod user;

pub use cidr::{Cidr, NotACidr};
pub use gvk::{GroupKind, GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
pub use objectmeta::{ObjectKey, ObjectMeta, ObjectReference, OwnerReference, exact, nullable};
pub use resources::Resource;
pub use status::{Reason, Status, StatusCause, StatusDetails};
pub use stringmap::StringMap;
pub use text::Text;
pub use user::UserInfo;

/// The header in which our kubelets say beside their summary of use how many nanoseconds its rates are about; upstream's do not say.
pub const USAGE_WINDOW: &str = "kedge-usage-window";
