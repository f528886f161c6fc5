package podspec

import (
	"net"
	"path"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// The sources that name one storage product or protocol.

func (c *checker) gitRepo(at *field.Path, s *corev1.GitRepoVolumeSource) {
	if s.Repository == "" {
		c.required(at.Child("repository"), "")
	}
	c.descendingPath(at.Child("directory"), s.Directory)
}

func (c *checker) gcePersistentDisk(at *field.Path, s *corev1.GCEPersistentDiskVolumeSource) {
	if s.PDName == "" {
		c.required(at.Child("pdName"), "")
	}
	c.diskPartition(at.Child("partition"), s.Partition)
}

func (c *checker) awsElasticBlockStore(at *field.Path, s *corev1.AWSElasticBlockStoreVolumeSource) {
	if s.VolumeID == "" {
		c.required(at.Child("volumeID"), "")
	}
	c.diskPartition(at.Child("partition"), s.Partition)
}

// diskPartition allows 0, which stands for the whole disk, although the message
// does not say so.
func (c *checker) diskPartition(at *field.Path, partition int32) {
	if partition < 0 || partition > 255 {
		c.invalid(at, partition, validation.InclusiveRangeError(1, 255))
	}
}

func (c *checker) nfs(at *field.Path, s *corev1.NFSVolumeSource) {
	if s.Server == "" {
		c.required(at.Child("server"), "")
	}
	if s.Path == "" {
		c.required(at.Child("path"), "")
	}
	if !path.IsAbs(s.Path) {
		c.invalid(at.Child("path"), s.Path, "must be an absolute path")
	}
}

var (
	iscsiIQN = regexp.MustCompile(`iqn\.\d{4}-\d{2}\.([[:alnum:]-.]+)(:[^,;*&$|\s]+)$`)
	iscsiEUI = regexp.MustCompile(`^eui.[[:alnum:]]{16}$`)
	iscsiNAA = regexp.MustCompile(`^naa.[[:alnum:]]{32}$`)
)

func (c *checker) iscsi(at *field.Path, s *corev1.ISCSIVolumeSource) {
	if s.TargetPortal == "" {
		c.required(at.Child("targetPortal"), "")
	}
	if s.IQN == "" {
		c.required(at.Child("iqn"), "")
	} else {
		c.iscsiName(at.Child("iqn"), s.IQN)
	}
	c.lun(at.Child("lun"), s.Lun)
	if (s.DiscoveryCHAPAuth || s.SessionCHAPAuth) && s.SecretRef == nil {
		c.required(at.Child("secretRef"), "")
	}
	if s.InitiatorName != nil {
		c.iscsiName(at.Child("initiatorname"), *s.InitiatorName)
	}
}

func (c *checker) iscsiName(at *field.Path, name string) {
	var format *regexp.Regexp
	switch {
	case strings.HasPrefix(name, "iqn"):
		format = iscsiIQN
	case strings.HasPrefix(name, "eui"):
		format = iscsiEUI
	case strings.HasPrefix(name, "naa"):
		format = iscsiNAA
	default:
		c.invalid(at, name, "must be valid format starting with iqn, eui, or naa")
		return
	}
	if !format.MatchString(name) {
		c.invalid(at, name, "must be valid format")
	}
}

// iscsiLength limits what kubelets combine into the name of an interface.
func (c *checker) iscsiLength(at *field.Path, v *corev1.Volume) {
	if v.ISCSI.InitiatorName != nil && len(v.Name+":"+v.ISCSI.TargetPortal) > 64 {
		c.invalid(at.Child("name"), v.Name,
			"Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.")
	}
}

func (c *checker) lun(at *field.Path, lun int32) {
	if lun < 0 || lun > 255 {
		c.invalid(at, lun, validation.InclusiveRangeError(0, 255))
	}
}

func (c *checker) fibreChannel(at *field.Path, s *corev1.FCVolumeSource) {
	if len(s.TargetWWNs) == 0 && len(s.WWIDs) == 0 {
		c.required(at.Child("targetWWNs"), "must specify either targetWWNs or wwids, but not both")
	}
	if len(s.TargetWWNs) > 0 && len(s.WWIDs) > 0 {
		c.invalid(at.Child("targetWWNs"), s.TargetWWNs, "targetWWNs and wwids can not be specified simultaneously")
	}
	if len(s.TargetWWNs) == 0 {
		return
	}
	if s.Lun == nil {
		c.required(at.Child("lun"), "lun is required if targetWWNs is specified")
	} else {
		c.lun(at.Child("lun"), *s.Lun)
	}
}

func (c *checker) glusterfs(at *field.Path, s *corev1.GlusterfsVolumeSource) {
	if s.EndpointsName == "" {
		c.required(at.Child("endpoints"), "")
	}
	if s.Path == "" {
		c.required(at.Child("path"), "")
	}
}

func (c *checker) flocker(at *field.Path, s *corev1.FlockerVolumeSource) {
	if s.DatasetName == "" && s.DatasetUUID == "" {
		c.required(at, "one of datasetName and datasetUUID is required")
	}
	if s.DatasetName != "" && s.DatasetUUID != "" {
		c.invalid(at, "resource", "datasetName and datasetUUID can not be specified simultaneously")
	}
	if strings.Contains(s.DatasetName, "/") {
		c.invalid(at.Child("datasetName"), s.DatasetName, "must not contain '/'")
	}
}

func (c *checker) rbd(at *field.Path, s *corev1.RBDVolumeSource) {
	if len(s.CephMonitors) == 0 {
		c.required(at.Child("monitors"), "")
	}
	if s.RBDImage == "" {
		c.required(at.Child("image"), "")
	}
}

func (c *checker) cephFS(at *field.Path, s *corev1.CephFSVolumeSource) {
	if len(s.Monitors) == 0 {
		c.required(at.Child("monitors"), "")
	}
}

func (c *checker) cinder(at *field.Path, s *corev1.CinderVolumeSource) {
	if s.VolumeID == "" {
		c.required(at.Child("volumeID"), "")
	}
	if s.SecretRef != nil && s.SecretRef.Name == "" {
		c.required(at.Child("secretRef", "name"), "")
	}
}

func (c *checker) quobyte(at *field.Path, s *corev1.QuobyteVolumeSource) {
	const registry = "must be a host:port pair or multiple pairs separated by commas"
	switch {
	case s.Registry == "":
		c.required(at.Child("registry"), registry)
	case len(s.Tenant) >= 65:
		c.required(at.Child("tenant"), "must be a UUID and may not exceed a length of 64 characters")
	default:
		for _, pair := range strings.Split(s.Registry, ",") {
			if _, _, err := net.SplitHostPort(pair); err != nil {
				c.invalid(at.Child("registry"), s.Registry, registry)
			}
		}
	}
	if s.Volume == "" {
		c.required(at.Child("volume"), "")
	}
}

func (c *checker) flexVolume(at *field.Path, s *corev1.FlexVolumeSource) {
	if s.Driver == "" {
		c.required(at.Child("driver"), "")
	}
	for _, key := range sortedKeys(s.Options) {
		domain, _, _ := strings.Cut(key, "/")
		domain = "." + strings.ToLower(domain)
		if strings.HasSuffix(domain, ".kubernetes.io") || strings.HasSuffix(domain, ".k8s.io") {
			c.invalid(at.Child("options").Key(key), key, "kubernetes.io and k8s.io namespaces are reserved")
		}
	}
}

func (c *checker) azureFile(at *field.Path, s *corev1.AzureFileVolumeSource) {
	if s.SecretName == "" {
		c.required(at.Child("secretName"), "")
	}
	if s.ShareName == "" {
		c.required(at.Child("shareName"), "")
	}
}

func (c *checker) azureDisk(at *field.Path, s *corev1.AzureDiskVolumeSource) {
	if s.DiskName == "" {
		c.required(at.Child("diskName"), "")
	}
	if s.DataDiskURI == "" {
		c.required(at.Child("diskURI"), "")
	}
	if s.CachingMode != nil {
		oneOf(c, at.Child("cachingMode"), *s.CachingMode,
			corev1.AzureDataDiskCachingNone, corev1.AzureDataDiskCachingReadOnly, corev1.AzureDataDiskCachingReadWrite)
	}
	if s.Kind == nil {
		return
	}
	oneOf(c, at.Child("kind"), *s.Kind, corev1.AzureDedicatedBlobDisk, corev1.AzureManagedDisk, corev1.AzureSharedBlobDisk)
	if *s.Kind == corev1.AzureManagedDisk {
		if !strings.HasPrefix(s.DataDiskURI, "/subscriptions/") {
			c.add(field.NotSupported(at.Child("diskURI"), s.DataDiskURI,
				[]string{"/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"}))
		}
	} else if !strings.HasPrefix(s.DataDiskURI, "https://") {
		c.add(field.NotSupported(at.Child("diskURI"), s.DataDiskURI,
			[]string{"https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd"}))
	}
}

func (c *checker) vsphere(at *field.Path, s *corev1.VsphereVirtualDiskVolumeSource) {
	if s.VolumePath == "" {
		c.required(at.Child("volumePath"), "")
	}
}

func (c *checker) photon(at *field.Path, s *corev1.PhotonPersistentDiskVolumeSource) {
	if s.PdID == "" {
		c.required(at.Child("pdID"), "")
	}
}

func (c *checker) portworx(at *field.Path, s *corev1.PortworxVolumeSource) {
	if s.VolumeID == "" {
		c.required(at.Child("volumeID"), "")
	}
}

func (c *checker) storageOS(at *field.Path, s *corev1.StorageOSVolumeSource) {
	if s.VolumeName == "" {
		c.required(at.Child("volumeName"), "")
	} else {
		c.dnsLabel(at.Child("volumeName"), s.VolumeName)
	}
	if s.VolumeNamespace != "" {
		c.dnsLabel(at.Child("volumeNamespace"), s.VolumeNamespace)
	}
	if s.SecretRef != nil && s.SecretRef.Name == "" {
		c.required(at.Child("secretRef", "name"), "")
	}
}

func (c *checker) scaleIO(at *field.Path, s *corev1.ScaleIOVolumeSource) {
	if s.Gateway == "" {
		c.required(at.Child("gateway"), "")
	}
	if s.System == "" {
		c.required(at.Child("system"), "")
	}
	if s.VolumeName == "" {
		c.required(at.Child("volumeName"), "")
	}
}
