package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// review is a ConversionReview of apiextensions.k8s.io/v1, as far as this is about it.
type review struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Request    *request  `json:"request,omitempty"`
	Response   *response `json:"response,omitempty"`
}

type request struct {
	UID               string           `json:"uid"`
	DesiredAPIVersion string           `json:"desiredAPIVersion"`
	Objects           []map[string]any `json:"objects"`
}

type response struct {
	UID              string           `json:"uid"`
	ConvertedObjects []map[string]any `json:"convertedObjects"`
	Result           map[string]any   `json:"result"`
}

// convert makes hostPort of host and port, and the other way round. What is called "renamed"
// it gives another name, "forgotten" it leaves out, and "broken" it fails for.
func convert(w http.ResponseWriter, r *http.Request) {
	var in review
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Request == nil {
		http.Error(w, fmt.Sprint("no review: ", err), http.StatusBadRequest)
		return
	}
	out := &response{UID: in.Request.UID, Result: map[string]any{"status": "Success"}, ConvertedObjects: []map[string]any{}}
	for _, obj := range in.Request.Objects {
		metadata := obj["metadata"].(map[string]any)
		switch metadata["name"] {
		case "broken":
			out.Result = map[string]any{"status": "Failed", "message": "hostPort has no colon"}
		case "forgotten":
			continue
		case "renamed":
			metadata["name"] = "other"
		}
		if obj["apiVersion"] != in.Request.DesiredAPIVersion {
			exchange(obj)
			obj["apiVersion"] = in.Request.DesiredAPIVersion
		}
		out.ConvertedObjects = append(out.ConvertedObjects, obj)
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review{APIVersion: in.APIVersion, Kind: in.Kind, Response: out}) // the client may have left
}

func exchange(obj map[string]any) {
	if hostPort, ok := obj["hostPort"].(string); ok {
		host, port, _ := strings.Cut(hostPort, ":")
		delete(obj, "hostPort")
		obj["host"], obj["port"] = host, port
		return
	}
	obj["hostPort"] = fmt.Sprint(obj["host"], ":", obj["port"])
	delete(obj, "host")
	delete(obj, "port")
}
