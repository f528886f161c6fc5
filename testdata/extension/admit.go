package main

import (
	"encoding/json"
	"net/http"
)

// admissionReview is what of an AdmissionReview is of interest here.
type admissionReview struct {
	APIVersion string             `json:"apiVersion"`
	Kind       string             `json:"kind"`
	Request    *admissionRequest  `json:"request,omitempty"`
	Response   *admissionResponse `json:"response,omitempty"`
}

type admissionRequest struct {
	UID      string `json:"uid"`
	UserInfo struct {
		Username string `json:"username"`
	} `json:"userInfo"`
	Object struct {
		Metadata struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
	} `json:"object"`
}

type admissionResponse struct {
	UID       string   `json:"uid"`
	Allowed   bool     `json:"allowed"`
	Warnings  []string `json:"warnings,omitempty"`
	PatchType string   `json:"patchType,omitempty"`
	Patch     []byte   `json:"patch,omitempty"`
	Status    *status  `json:"status,omitempty"`
}

type status struct {
	Message string `json:"message"`
}

// mutate writes down who has made an object.
func mutate(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ask *admissionRequest, resp *admissionResponse) {
		maker := map[string]any{"op": "add", "path": "/metadata/annotations", "value": map[string]string{"maker": ask.UserInfo.Username}}
		if len(ask.Object.Metadata.Annotations) > 0 {
			maker["path"], maker["value"] = "/metadata/annotations/maker", ask.UserInfo.Username
		}
		resp.PatchType = "JSONPatch"
		resp.Patch, _ = json.Marshal([]any{maker})
	})
}

// validate refuses what says that it is to be refused.
func validate(w http.ResponseWriter, r *http.Request) {
	answer(w, r, func(ask *admissionRequest, resp *admissionResponse) {
		if why, refuse := ask.Object.Metadata.Annotations["refuse"]; refuse {
			resp.Allowed, resp.Status, resp.Warnings = false, &status{why}, []string{"you have asked for it"}
		}
	})
}

func answer(w http.ResponseWriter, r *http.Request, judge func(*admissionRequest, *admissionResponse)) {
	var in admissionReview
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	resp := &admissionResponse{UID: in.Request.UID, Allowed: true}
	judge(in.Request, resp)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(admissionReview{APIVersion: in.APIVersion, Kind: in.Kind, Response: resp})
}
