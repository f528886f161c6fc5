{{- define "shop.pod" -}}
restartPolicy: Never
runtimeClassName: host
containers:
- name: main
  image: busybox
{{- end -}}
