# What people do with the Python client: Jobs from objects, patches, watches, logs, exec,
# and an error whose body says what is wrong.
import json
from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from kubernetes.stream import stream

config.load_kube_config()
batch, core = client.BatchV1Api(), client.CoreV1Api()


def job(name, command, **spec):
    container = client.V1Container(name="main", image="busybox", command=["sh", "-c", command])
    template = client.V1PodTemplateSpec(spec=client.V1PodSpec(restart_policy="Never", runtime_class_name="host", containers=[container]))
    return client.V1Job(metadata=client.V1ObjectMeta(name=name), spec=client.V1JobSpec(template=template, **spec))


batch.create_namespaced_job("default", job("greets", "echo hello from python"))
for event in watch.Watch().stream(batch.list_namespaced_job, "default", field_selector="metadata.name=greets", timeout_seconds=60):
    if event["object"].status.succeeded:
        break
pod = core.list_namespaced_pod("default", label_selector="job-name=greets").items[0]
print("log:", core.read_namespaced_pod_log(pod.metadata.name, "default").strip())

batch.create_namespaced_job("default", job("rests", "sleep 60", suspend=True))
batch.patch_namespaced_job("rests", "default", {"spec": {"suspend": False, "parallelism": 1}})
name = None
for event in watch.Watch().stream(core.list_namespaced_pod, "default", label_selector="job-name=rests", timeout_seconds=60):
    if event["object"].status.phase == "Running":
        name = event["object"].metadata.name
        break
print("exec:", stream(core.connect_get_namespaced_pod_exec, name, "default", command=["sh", "-c", "echo $((6*7))"], stderr=True, stdin=False, stdout=True, tty=False).strip())
batch.delete_namespaced_job("rests", "default", propagation_policy="Foreground", grace_period_seconds=0)

try:
    batch.create_namespaced_job("default", job("Wrong_Name", "true"))
except ApiException as e:
    body = json.loads(e.body)
    print("refused:", e.status, body["reason"], body["details"]["causes"][0]["field"])
