"""What the Kubernetes client of PyPI does in its own examples, against a control plane: every step checks what came of it."""

import tempfile
import threading
import time

import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException

NAMESPACE = "python-tour"

config.load_kube_config()
api = client.ApiClient()
core = client.CoreV1Api(api)
apps = client.AppsV1Api(api)


def refused(code, call):
    """Runs what must be refused with a code."""
    try:
        call()
    except ApiException as err:
        assert err.status == code, (err.status, err.body)
        return err
    raise AssertionError(f"nobody refused it with {code}")


def config_map(name, data, labels=None):
    return client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name, labels=labels), data=data)


def objects():
    made = core.create_namespaced_config_map(NAMESPACE, config_map("a", {"k": "1"}, {"app": "tour"}))
    assert made.metadata.uid and made.metadata.creation_timestamp.tzinfo
    refused(409, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("a", {})))
    made.data["k"] = "2"
    replaced = core.replace_namespaced_config_map("a", NAMESPACE, made)
    assert int(replaced.metadata.resource_version) > int(made.metadata.resource_version)
    refused(409, lambda: core.replace_namespaced_config_map("a", NAMESPACE, made))
    merged = core.patch_namespaced_config_map("a", NAMESPACE, {"data": {"m": "3"}})
    assert merged.data == {"k": "2", "m": "3"}
    operations = [{"op": "remove", "path": "/data/m"}]
    assert core.patch_namespaced_config_map("a", NAMESPACE, operations).data == {"k": "2"}
    wrong = refused(422, lambda: core.create_namespaced_config_map(NAMESPACE, config_map("No_Name", {})))
    assert "metadata.name" in wrong.body
    dry = core.create_namespaced_config_map(NAMESPACE, config_map("dry", {}), dry_run="All")
    assert dry.metadata.name == "dry"
    refused(404, lambda: core.read_namespaced_config_map("dry", NAMESPACE))


def pages():
    for number in range(7):
        core.create_namespaced_config_map(NAMESPACE, config_map(f"page-{number}", {}, {"paged": "yes"}))
    names, token = [], None
    while True:
        page = core.list_namespaced_config_map(NAMESPACE, label_selector="paged=yes", limit=3, _continue=token)
        names += [item.metadata.name for item in page.items]
        token = page.metadata._continue
        if not token:
            break
    assert names == [f"page-{number}" for number in range(7)], names
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="paged=yes")
    assert not core.list_namespaced_config_map(NAMESPACE, label_selector="paged=yes").items


def watches():
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version

    def change():
        core.create_namespaced_config_map(NAMESPACE, config_map("seen", {}, {"watched": "yes"}))
        core.patch_namespaced_config_map("seen", NAMESPACE, {"data": {"k": "v"}})
        core.delete_namespaced_config_map("seen", NAMESPACE)

    writer = threading.Thread(target=change)
    writer.start()
    seen = []
    stream = watch.Watch()
    events = stream.stream(
        core.list_namespaced_config_map, NAMESPACE, label_selector="watched=yes", resource_version=start, timeout_seconds=30
    )
    for event in events:
        seen.append(event["type"])
        if event["type"] == "DELETED":
            stream.stop()
    writer.join()
    assert seen == ["ADDED", "MODIFIED", "DELETED"], seen
    # One that nobody stops ends by itself.
    begun = time.monotonic()
    list(watch.Watch().stream(core.list_namespaced_secret, NAMESPACE, timeout_seconds=1))
    assert 0.5 < time.monotonic() - begun < 20


def workloads():
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "example.org/web:1", ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
"""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        utils.create_from_yaml(api, file.name, namespace=NAMESPACE)
    eventually(lambda: len(core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items) == 2)
    scale = apps.read_namespaced_deployment_scale("web", NAMESPACE)
    assert scale.spec.replicas == 2
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 1}})
    eventually(lambda: len(core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items) == 1)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "example.org/web:2"}]}}}}
    patched = apps.patch_namespaced_deployment("web", NAMESPACE, image)
    container = patched.spec.template.spec.containers[0]
    assert container.image.endswith(":2") and container.ports[0].container_port == 80
    pod = eventually(lambda: core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items)[0]
    eviction = client.V1Eviction(metadata=client.V1ObjectMeta(name=pod.metadata.name))
    core.create_namespaced_pod_eviction(pod.metadata.name, NAMESPACE, eviction)
    apps.delete_namespaced_deployment("web", NAMESPACE, propagation_policy="Foreground")
    eventually(lambda: not core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items)


def custom():
    definition = yaml.safe_load(
        """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kites.tour.example.org}
spec:
  group: tour.example.org
  scope: Namespaced
  names: {plural: kites, singular: kite, kind: Kite}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema: {openAPIV3Schema: {type: object, properties: {
      spec: {type: object, properties: {tails: {type: integer, minimum: 1}}},
      status: {type: object, properties: {flies: {type: boolean}}}}}}
"""
    )
    dynamically = dynamic.DynamicClient(client.ApiClient())
    definitions = dynamically.resources.get(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition")
    definitions.create(body=definition)
    established = lambda: any(
        one.type == "Established" and one.status == "True"
        for one in definitions.get(name="kites.tour.example.org").status.conditions or []
    )
    eventually(established)
    kites = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="tour.example.org/v1", kind="Kite")
    body = {"apiVersion": "tour.example.org/v1", "kind": "Kite", "metadata": {"name": "red"}, "spec": {"tails": 2}}
    kites.create(body=body, namespace=NAMESPACE)
    refused(422, lambda: kites.create(body={**body, "metadata": {"name": "bad"}, "spec": {"tails": 0}}, namespace=NAMESPACE))
    applied = kites.server_side_apply(body={**body, "spec": {"tails": 3}}, namespace=NAMESPACE, field_manager="tour", force_conflicts=True)
    assert applied.spec.tails == 3
    custom_objects = client.CustomObjectsApi()
    listed = custom_objects.list_namespaced_custom_object("tour.example.org", "v1", NAMESPACE, "kites")
    assert [item["metadata"]["name"] for item in listed["items"]] == ["red"]
    status = custom_objects.patch_namespaced_custom_object_status(
        "tour.example.org", "v1", NAMESPACE, "kites", "red", {"status": {"flies": True}}
    )
    assert status["status"] == {"flies": True}
    definitions.delete(name="kites.tour.example.org")
    eventually(lambda: is_gone(lambda: definitions.get(name="kites.tour.example.org")))


def rights():
    account = client.V1ServiceAccount(metadata=client.V1ObjectMeta(name="visitor"))
    core.create_namespaced_service_account(NAMESPACE, account)
    request = client.AuthenticationV1TokenRequest(spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=600))
    token = core.create_namespaced_service_account_token("visitor", NAMESPACE, request).status.token
    visitor = client.Configuration()
    visitor.host, visitor.ssl_ca_cert = api.configuration.host, api.configuration.ssl_ca_cert
    visitor.api_key = {"authorization": f"Bearer {token}"}
    theirs = client.CoreV1Api(client.ApiClient(visitor))
    refused(403, lambda: theirs.list_namespaced_config_map(NAMESPACE))
    rbac = client.RbacAuthorizationV1Api()
    subject = client.RbacV1Subject(kind="ServiceAccount", name="visitor", namespace=NAMESPACE)
    role = client.V1RoleRef(api_group="rbac.authorization.k8s.io", kind="ClusterRole", name="view")
    binding = client.V1RoleBinding(metadata=client.V1ObjectMeta(name="visitor"), subjects=[subject], role_ref=role)
    rbac.create_namespaced_role_binding(NAMESPACE, binding)
    eventually(lambda: allowed(lambda: theirs.list_namespaced_config_map(NAMESPACE)))
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(
            resource_attributes=client.V1ResourceAttributes(namespace=NAMESPACE, verb="delete", resource="configmaps")
        )
    )
    answer = client.AuthorizationV1Api(client.ApiClient(visitor)).create_self_subject_access_review(review)
    assert not answer.status.allowed


def discovery():
    assert client.VersionApi().get_code().git_version.startswith("v1.36.")
    groups = {group.name for group in client.ApisApi().get_api_versions().groups}
    assert {"apps", "batch", "networking.k8s.io"} <= groups, groups
    kinds = {resource.kind for resource in core.get_api_resources().resources}
    assert {"Pod", "Node", "Secret"} <= kinds


def allowed(call):
    try:
        call()
        return True
    except ApiException as err:
        assert err.status == 403, err
        return False


def is_gone(call):
    try:
        call()
        return False
    except ApiException as err:
        assert err.status == 404, err
        return True


def eventually(state, within=30):
    """Waits for a state."""
    end = time.monotonic() + within
    while True:
        found = state()
        if found:
            return found
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.1)


core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
try:
    eventually(lambda: core.list_namespaced_service_account(NAMESPACE).items)
    for step in [objects, pages, watches, workloads, custom, rights, discovery]:
        step()
        print(f"  {step.__name__}: ok")
finally:
    core.delete_namespace(NAMESPACE)
eventually(lambda: is_gone(lambda: core.read_namespace(NAMESPACE)))
