// Prints what an informer of the Jobs says.
import * as k8s from '@kubernetes/client-node';

const config = new k8s.KubeConfig();
config.loadFromDefault();
const batch = config.makeApiClient(k8s.BatchV1Api);
const informer = k8s.makeInformer(config, '/apis/batch/v1/namespaces/default/jobs', () => batch.listNamespacedJob({ namespace: 'default' }));

const say = (what) => (job) => {
  const done = (job.status?.conditions ?? []).some((c) => c.type === 'Complete' && c.status === 'True');
  console.log(what, job.metadata.name, job.metadata.resourceVersion, done ? 1 : 0);
  if (what === 'DELETED' && job.metadata.name === 'last') process.exit();
};
informer.on('add', say('ADDED'));
informer.on('update', say('MODIFIED'));
informer.on('delete', say('DELETED'));
informer.on('error', () => setTimeout(() => informer.start().catch(() => {}), 100));
await informer.start();
console.log('LISTED', informer.list().length, 0, 0);
