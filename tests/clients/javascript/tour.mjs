// What programs do with the Kubernetes client of npm, against a control plane: every step checks what came of it.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import * as k8s from '@kubernetes/client-node';

const NAMESPACE = 'javascript-tour';
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const objects = k8s.KubernetesObjectApi.makeApiClient(config);

const refused = (code, call) => assert.rejects(call, (err) => (assert.equal(err.code, code, String(err)), true));

async function eventually(state, within = 30_000) {
    for (const end = Date.now() + within; ; await sleep(100)) {
        const found = await state();
        if (found) return found;
        assert.ok(Date.now() < end, `it did not come about: ${state}`);
    }
}

const map = (name, data, labels) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: NAMESPACE, labels }, data });

const steps = {
    async objects() {
        const made = await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: map('a', { k: '1' }) });
        assert.ok(made.metadata.uid && made.metadata.creationTimestamp instanceof Date);
        await refused(409, () => core.createNamespacedConfigMap({ namespace: NAMESPACE, body: map('a', {}) }));
        made.data.k = '2';
        await core.replaceNamespacedConfigMap({ namespace: NAMESPACE, name: 'a', body: made });
        await refused(409, () => core.replaceNamespacedConfigMap({ namespace: NAMESPACE, name: 'a', body: made }));
        await refused(422, () => core.createNamespacedConfigMap({ namespace: NAMESPACE, body: map('No_Name', {}) }));
        await refused(404, () => core.readNamespacedConfigMap({ namespace: NAMESPACE, name: 'none' }));
        const patched = await core.patchNamespacedConfigMap(
            { namespace: NAMESPACE, name: 'a', body: [{ op: 'add', path: '/data/p', value: 'q' }] },
            k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
        );
        assert.deepEqual(patched.data, { k: '2', p: 'q' });
        const listed = await core.listNamespacedConfigMap({ namespace: NAMESPACE, fieldSelector: 'metadata.name=a' });
        assert.equal(listed.items.length, 1);
    },

    async generic() {
        const applied = await objects.patch(
            map('applied', { a: 'b' }), undefined, undefined, 'tour', true, k8s.PatchStrategy.ServerSideApply);
        assert.equal(applied.metadata.managedFields[0].operation, 'Apply');
        const read = await objects.read({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace: NAMESPACE } });
        assert.deepEqual(read.data, { a: 'b' });
        await objects.delete(read);
        await refused(404, () => objects.read(read));
    },

    async watches() {
        const seen = [];
        const begun = await core.listNamespacedConfigMap({ namespace: NAMESPACE });
        const watch = new k8s.Watch(config);
        let ended;
        const over = new Promise((resolve) => (ended = resolve));
        const request = await watch.watch(
            `/api/v1/namespaces/${NAMESPACE}/configmaps`,
            { resourceVersion: begun.metadata.resourceVersion, allowWatchBookmarks: true },
            (type, object) => {
                if (type !== 'BOOKMARK') seen.push(`${type} ${object.metadata.name}`);
                if (type === 'DELETED') request.abort();
            },
            ended,
        );
        await core.createNamespacedConfigMap({ namespace: NAMESPACE, body: map('seen', {}) });
        await core.deleteNamespacedConfigMap({ namespace: NAMESPACE, name: 'seen' });
        await over;
        assert.deepEqual(seen, ['ADDED seen', 'DELETED seen']);
    },

    async informer() {
        const list = () => core.listNamespacedSecret({ namespace: NAMESPACE });
        const informer = k8s.makeInformer(config, `/api/v1/namespaces/${NAMESPACE}/secrets`, list);
        const seen = [];
        informer.on('add', (object) => seen.push(`add ${object.metadata.name}`));
        informer.on('delete', (object) => seen.push(`delete ${object.metadata.name}`));
        await informer.start();
        const secret = { metadata: { name: 's' }, stringData: { k: 'v' } };
        const made = await core.createNamespacedSecret({ namespace: NAMESPACE, body: secret });
        assert.equal(made.data.k, Buffer.from('v').toString('base64'));
        await eventually(() => seen.includes('add s') && informer.get('s', NAMESPACE));
        await core.deleteNamespacedSecret({ namespace: NAMESPACE, name: 's' });
        await eventually(() => seen.includes('delete s'));
        await informer.stop();
    },

    async workloads() {
        const labels = { app: 'web' };
        const template = { metadata: { labels }, spec: { containers: [{ name: 'web', image: 'example.org/web:1' }] } };
        const body = { metadata: { name: 'web' }, spec: { replicas: 2, selector: { matchLabels: labels }, template } };
        await apps.createNamespacedDeployment({ namespace: NAMESPACE, body });
        const pods = async () => (await core.listNamespacedPod({ namespace: NAMESPACE, labelSelector: 'app=web' })).items;
        await eventually(async () => (await pods()).length === 2);
        // Its controller writes, too: who reads and writes tries again.
        await eventually(async () => {
            const scale = await apps.readNamespacedDeploymentScale({ namespace: NAMESPACE, name: 'web' });
            scale.spec.replicas = 0;
            const replaced = apps.replaceNamespacedDeploymentScale({ namespace: NAMESPACE, name: 'web', body: scale });
            return replaced.catch((err) => (assert.equal(err.code, 409), false));
        });
        await eventually(async () => (await pods()).length === 0);
        await apps.deleteNamespacedDeployment({ namespace: NAMESPACE, name: 'web', propagationPolicy: 'Background' });
    },

    async custom() {
        const group = 'tour.example.com';
        const schema = { type: 'object', properties: { spec: { type: 'object', properties: { size: { type: 'integer' } } } } };
        const definition = {
            apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: `drums.${group}` },
            spec: {
                group, scope: 'Namespaced', names: { plural: 'drums', singular: 'drum', kind: 'Drum' },
                versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
            },
        };
        await objects.create(definition);
        const custom = config.makeApiClient(k8s.CustomObjectsApi);
        const where = { group, version: 'v1', namespace: NAMESPACE, plural: 'drums' };
        const body = { apiVersion: `${group}/v1`, kind: 'Drum', metadata: { name: 'd' }, spec: { size: 3, unknown: 1 } };
        const made = await eventually(() => custom.createNamespacedCustomObject({ ...where, body }).catch(() => false));
        assert.deepEqual(made.spec, { size: 3 });
        assert.equal((await custom.listNamespacedCustomObject(where)).items.length, 1);
        await objects.delete(definition);
        await eventually(() => objects.read(definition).then(() => false, (err) => err.code === 404));
    },

    async discovery() {
        const version = await config.makeApiClient(k8s.VersionApi).getCode();
        assert.match(version.gitVersion, /^v1\.36\./);
        const groups = (await config.makeApiClient(k8s.ApisApi).getAPIVersions()).groups.map((group) => group.name);
        assert.ok(groups.includes('apps') && groups.includes('batch'));
    },
};

await core.createNamespace({ body: { metadata: { name: NAMESPACE } } });
try {
    for (const [name, step] of Object.entries(steps)) {
        await step();
        console.log(`  ${name}: ok`);
    }
} finally {
    await core.deleteNamespace({ name: NAMESPACE });
}
await eventually(() => core.readNamespace({ name: NAMESPACE }).then(() => false, (err) => err.code === 404));
