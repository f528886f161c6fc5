// What people do with the JavaScript client: a Job, its log, an exec, and an error.
import { Writable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const batch = config.makeApiClient(k8s.BatchV1Api);
const core = config.makeApiClient(k8s.CoreV1Api);
const namespace = 'default';
const job = (name, command) => ({
  metadata: { name },
  spec: { template: { spec: { restartPolicy: 'Never', runtimeClassName: 'host', containers: [{ name: 'main', image: 'busybox', command: ['sh', '-c', command] }] } } },
});
const until = async (look) => {
  for (;;) {
    const found = await look();
    if (found) return found;
    await new Promise((wake) => setTimeout(wake, 50));
  }
};
const podOf = async (name, phase) =>
  (await core.listNamespacedPod({ namespace, labelSelector: `job-name=${name}` })).items.find((p) => p.status.phase === phase);

await batch.createNamespacedJob({ namespace, body: job('greets-js', 'echo hello from javascript') });
const pod = await until(() => podOf('greets-js', 'Succeeded'));
console.log('log:', (await core.readNamespacedPodLog({ name: pod.metadata.name, namespace })).trim());

await batch.createNamespacedJob({ namespace, body: job('rests-js', 'sleep 60') });
const running = await until(() => podOf('rests-js', 'Running'));
let out = '';
const sink = new Writable({ write(chunk, _, done) { out += chunk; done(); } });
const status = await new Promise((resolve, reject) =>
  new k8s.Exec(config).exec(namespace, running.metadata.name, 'main', ['sh', '-c', 'echo $((6*7)); exit 3'], sink, null, null, false, resolve).catch(reject));
console.log('exec:', out.trim(), status.status, status.details.causes[0].message);

try {
  await batch.createNamespacedJob({ namespace, body: job('Wrong_Name', 'true') });
} catch (e) {
  const body = JSON.parse(e.body);
  console.log('refused:', e.code, body.reason, body.details.causes[0].field);
}
process.exit();
