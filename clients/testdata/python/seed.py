# The programs of an article about CronJobs and the Python client, as they are printed
# there, but for where the two files are.
import os
import yaml
from pprint import pprint
from kubernetes import client, config
from kubernetes import config as kube_config
from kubernetes.client.rest import ApiException

KUBECONFIG_FILE, CRONJOB_FILE = os.environ["KUBECONFIG"], os.environ["CRONJOB_FILE"]

# Configs can be set in Configuration class directly or using helper utility
config.load_kube_config()

v1 = client.CoreV1Api()
print("Listing pods with their IPs:")
ret = v1.list_pod_for_all_namespaces(watch=False)
for i in ret.items:
    print("%s\\t%s\\t%s" % (i.status.pod_ip, i.metadata.namespace, i.metadata.name))

# Configs can be set in Configuration class directly or using helper utility
kube_config.load_kube_config(config_file=KUBECONFIG_FILE)

v1 = client.CoreV1Api()
print("Listing pods with their IPs:")
ret = v1.list_pod_for_all_namespaces(watch=False)
for i in ret.items:
    print("%s\\t%s\\t%s" % (i.status.pod_ip, i.metadata.namespace, i.metadata.name))

apps_v1 = client.BatchV1beta1Api()
with open(CRONJOB_FILE, "r") as f:
    template = yaml.safe_load(f)

namespace = 'test-namespace'

try:
    api_response = apps_v1.create_namespaced_cron_job(namespace, template)
    pprint(api_response)
except ApiException as e:
    print("Exception when calling BatchV1Api->create_namespaced_cron_job: %s\\n" % e)
