package podspec

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// podVolumes checks the volumes and remembers the valid ones for the mounts.
func (c *checker) podVolumes(path *field.Path) {
	c.volumes = make(map[string]*corev1.VolumeSource, len(c.spec.Volumes))
	created := sets.New[string]()
	if c.named() {
		for _, v := range c.spec.Volumes {
			if v.Ephemeral != nil {
				created.Insert(c.claimName(v.Name))
			}
		}
	}
	for i := range c.spec.Volumes {
		v, at := &c.spec.Volumes[i], path.Index(i)
		before := len(c.errs)
		c.volumeSource(at, v)
		if v.Name == "" {
			c.required(at.Child("name"), "")
		} else {
			c.dnsLabel(at.Child("name"), v.Name)
		}
		if c.volumes[v.Name] != nil {
			c.add(field.Duplicate(at.Child("name"), v.Name))
		}
		if len(c.errs) == before {
			c.volumes[v.Name] = &v.VolumeSource
		}
		if pvc := v.PersistentVolumeClaim; pvc != nil && created.Has(pvc.ClaimName) {
			c.invalid(at.Child("persistentVolumeClaim", "claimName"), pvc.ClaimName,
				"must not reference a PVC that gets created for an ephemeral volume")
		}
	}
}

// named reports whether the spec belongs to a pod whose name is known.
func (c *checker) named() bool { return c.meta != nil && c.meta.Name != "" }

// claimName is the claim that an ephemeral volume creates.
func (c *checker) claimName(volume string) string { return c.meta.Name + "-" + volume }

// sourceCheck is one kind of volume: the name under which a second one is
// refused (not always that of its field), and how the source is checked, nil
// if the volume has none of this kind.
type sourceCheck struct {
	name  string
	check func()
}

// volumeSource demands exactly one source and checks it.
func (c *checker) volumeSource(path *field.Path, v *corev1.Volume) {
	found := 0
	for _, s := range c.sources(path, v) {
		if s.check == nil {
			continue
		}
		if found++; found > 1 {
			c.forbidden(path.Child(s.name), "may not specify more than 1 volume type")
		} else {
			s.check()
		}
		if s.name == "iscsi" {
			c.iscsiLength(path, v)
		}
	}
	if found == 0 {
		c.required(path, "must specify a volume type")
	}
}

// sources lists the checks of a volume's sources, in the order of the rules.
func (c *checker) sources(path *field.Path, v *corev1.Volume) []sourceCheck {
	return []sourceCheck{
		source("emptyDir", v.EmptyDir, path.Child("emptyDir"), c.emptyDir),
		source("hostPath", v.HostPath, path.Child("hostPath"), c.hostPath),
		source("gitRepo", v.GitRepo, path.Child("gitRepo"), c.gitRepo),
		source("gcePersistentDisk", v.GCEPersistentDisk, path.Child("persistentDisk"), c.gcePersistentDisk),
		source("awsElasticBlockStore", v.AWSElasticBlockStore, path.Child("awsElasticBlockStore"), c.awsElasticBlockStore),
		source("secret", v.Secret, path.Child("secret"), c.secretVolume),
		source("nfs", v.NFS, path.Child("nfs"), c.nfs),
		source("iscsi", v.ISCSI, path.Child("iscsi"), c.iscsi),
		source("glusterfs", v.Glusterfs, path.Child("glusterfs"), c.glusterfs),
		source("flocker", v.Flocker, path.Child("flocker"), c.flocker),
		source("persistentVolumeClaim", v.PersistentVolumeClaim, path.Child("persistentVolumeClaim"), c.claimVolume),
		source("rbd", v.RBD, path.Child("rbd"), c.rbd),
		source("cinder", v.Cinder, path.Child("cinder"), c.cinder),
		source("cephFS", v.CephFS, path.Child("cephfs"), c.cephFS),
		source("quobyte", v.Quobyte, path.Child("quobyte"), c.quobyte),
		source("downwarAPI", v.DownwardAPI, path.Child("downwardAPI"), c.downwardAPI),
		source("fc", v.FC, path.Child("fc"), c.fibreChannel),
		source("flexVolume", v.FlexVolume, path.Child("flexVolume"), c.flexVolume),
		source("configMap", v.ConfigMap, path.Child("configMap"), c.configMapVolume),
		source("azureFile", v.AzureFile, path.Child("azureFile"), c.azureFile),
		source("vsphereVolume", v.VsphereVolume, path.Child("vsphereVolume"), c.vsphere),
		source("photonPersistentDisk", v.PhotonPersistentDisk, path.Child("photonPersistentDisk"), c.photon),
		source("portworxVolume", v.PortworxVolume, path.Child("portworxVolume"), c.portworx),
		source("azureDisk", v.AzureDisk, path.Child("azureDisk"), c.azureDisk),
		source("storageos", v.StorageOS, path.Child("storageos"), c.storageOS),
		source("projected", v.Projected, path.Child("projected"), c.projected),
		source("scaleIO", v.ScaleIO, path.Child("scaleIO"), c.scaleIO),
		source("csi", v.CSI, path.Child("csi"), c.csi),
		source("ephemeral", v.Ephemeral, path.Child("ephemeral"), func(p *field.Path, s *corev1.EphemeralVolumeSource) {
			c.ephemeral(p, s)
			c.ephemeralName(path.Child("name"), v.Name)
		}),
		source("image", v.Image, path.Child("image"), c.imageVolume),
	}
}

// source pairs a source with its check.
func source[T any](name string, s *T, path *field.Path, check func(*field.Path, *T)) sourceCheck {
	if s == nil {
		return sourceCheck{}
	}
	return sourceCheck{name: name, check: func() { check(path, s) }}
}

func (c *checker) emptyDir(path *field.Path, s *corev1.EmptyDirVolumeSource) {
	if s.SizeLimit != nil && s.SizeLimit.Sign() < 0 {
		c.forbidden(path.Child("sizeLimit"), "SizeLimit field must be a valid resource quantity")
	}
}

func (c *checker) hostPath(path *field.Path, s *corev1.HostPathVolumeSource) {
	if s.Path == "" {
		c.required(path.Child("path"), "")
		return
	}
	c.noBacksteps(path.Child("path"), s.Path)
	if s.Type != nil {
		oneOf(c, path.Child("type"), *s.Type, corev1.HostPathUnset, corev1.HostPathBlockDev, corev1.HostPathCharDev,
			corev1.HostPathDirectory, corev1.HostPathDirectoryOrCreate, corev1.HostPathFile,
			corev1.HostPathFileOrCreate, corev1.HostPathSocket)
	}
}

func (c *checker) secretVolume(path *field.Path, s *corev1.SecretVolumeSource) {
	if s.SecretName == "" {
		c.required(path.Child("secretName"), "")
	}
	c.fileMode(path.Child("defaultMode"), s.DefaultMode)
	c.fileUser(path.Child("defaultUser"), s.DefaultUser)
	c.keysToPaths(path.Child("items"), s.Items)
}

func (c *checker) configMapVolume(path *field.Path, s *corev1.ConfigMapVolumeSource) {
	if s.Name == "" {
		c.required(path.Child("name"), "")
	}
	c.fileMode(path.Child("defaultMode"), s.DefaultMode)
	c.fileUser(path.Child("defaultUser"), s.DefaultUser)
	c.keysToPaths(path.Child("items"), s.Items)
}

func (c *checker) keysToPaths(path *field.Path, items []corev1.KeyToPath) {
	for i, item := range items {
		c.keyToPath(path.Index(i), item)
	}
}

func (c *checker) keyToPath(path *field.Path, item corev1.KeyToPath) {
	if item.Key == "" {
		c.required(path.Child("key"), "")
	}
	if item.Path == "" {
		c.required(path.Child("path"), "")
	}
	c.filePath(path.Child("path"), item.Path)
	c.fileMode(path.Child("mode"), item.Mode)
	c.fileUser(path.Child("user"), item.User)
}

func (c *checker) fileMode(path *field.Path, mode *int32) {
	if mode != nil && (*mode < 0 || *mode > 0o777) {
		c.invalid(path, *mode, "must be a number between 0 and 0777 (octal), both inclusive")
	}
}

// fileUser checks the owner of a file. There are none yet (see takeUsers), but for those
// of a second source.
func (c *checker) fileUser(path *field.Path, user *int64) {
	if user != nil {
		c.invalidEach(path, *user, validation.IsValidUserID(*user))
	}
}

func (c *checker) claimVolume(path *field.Path, s *corev1.PersistentVolumeClaimVolumeSource) {
	if s.ClaimName == "" {
		c.required(path.Child("claimName"), "")
	}
}

// downwardAPI reports what is wrong with a file under the path of the volume.
func (c *checker) downwardAPI(path *field.Path, s *corev1.DownwardAPIVolumeSource) {
	c.fileMode(path.Child("defaultMode"), s.DefaultMode)
	c.fileUser(path.Child("defaultUser"), s.DefaultUser)
	for i := range s.Items {
		c.downwardFile(path, &s.Items[i])
	}
}

func (c *checker) downwardFile(path *field.Path, f *corev1.DownwardAPIVolumeFile) {
	if f.Path == "" {
		c.required(path.Child("path"), "")
	}
	c.filePath(path.Child("path"), f.Path)
	switch {
	case f.FieldRef != nil:
		c.fieldRef(path.Child("fieldRef"), f.FieldRef, volumeFieldPaths())
		if f.ResourceFieldRef != nil {
			c.invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
		}
	case f.ResourceFieldRef != nil:
		c.resourceFieldRef(path.Child("resourceFieldRef"), f.ResourceFieldRef, true)
	default:
		c.required(path, "one of fieldRef and resourceFieldRef is required")
	}
	c.fileMode(path.Child("mode"), f.Mode)
	c.fileUser(path.Child("user"), f.User)
}

func (c *checker) imageVolume(path *field.Path, s *corev1.ImageVolumeSource) {
	if s.Reference == "" {
		c.addRule(ruleImageReference, field.Required(path.Child("reference"), ""))
	}
	c.pullPolicy(path.Child("pullPolicy"), s.PullPolicy)
}

func (c *checker) csi(path *field.Path, s *corev1.CSIVolumeSource) {
	c.csiDriver(path.Child("driver"), s.Driver)
	if ref := s.NodePublishSecretRef; ref != nil {
		if ref.Name == "" {
			c.required(path.Child("nodePublishSecretRef", "name"), "")
		} else {
			c.dnsSubdomain(path.Child("name"), ref.Name)
		}
	}
}

func (c *checker) csiDriver(path *field.Path, name string) {
	const maxLength = 63
	if name == "" {
		c.required(path, "")
		return
	}
	if len(name) > maxLength {
		c.add(field.TooLong(path, "", maxLength))
	}
	c.invalidEach(path, name, validation.IsDNS1123Subdomain(strings.ToLower(name)))
}

// ephemeralName checks the name of the claim that will be made for the volume.
func (c *checker) ephemeralName(path *field.Path, volume string) {
	if !c.named() || volume == "" {
		return
	}
	claim := c.claimName(volume)
	for _, msg := range apivalidation.NameIsDNSSubdomain(claim, false) {
		c.invalid(path, volume, fmt.Sprintf("PVC name %q: %v", claim, msg))
	}
}
