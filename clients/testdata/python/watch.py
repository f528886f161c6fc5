# Prints what a watch of the Jobs says, and lists again when the API no longer remembers.
import sys
import time
from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException
from urllib3.exceptions import HTTPError

config.load_kube_config()
batch = client.BatchV1Api()


def say(what, job):
    done = int(any(c.type == "Complete" and c.status == "True" for c in job.status.conditions or []))
    print(what, job.metadata.name, job.metadata.resource_version, done, flush=True)


def begin():
    while True:
        try:
            jobs = batch.list_namespaced_job("default")
            print("LISTED", len(jobs.items), jobs.metadata.resource_version, 0, flush=True)
            for job in jobs.items:
                say("THERE", job)
            return jobs.metadata.resource_version
        except (ApiException, HTTPError):
            time.sleep(0.1)


version = begin()
while True:
    try:
        watcher = watch.Watch()
        watcher.resource_version = version
        for event in watcher.stream(batch.list_namespaced_job, "default", resource_version=version, timeout_seconds=300):
            job = event["object"]
            version = job.metadata.resource_version
            say(event["type"], job)
            if job.metadata.name == "last" and event["type"] == "DELETED":
                sys.exit()
    except ApiException as e:
        if e.status != 410:
            raise
        version = begin()
    except HTTPError:
        time.sleep(0.1)
