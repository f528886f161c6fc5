package kind

import (
	"time"

	storagemigrationv1 "k8s.io/api/storagemigration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/registry/storagemigration/storagemigration"
)

// StorageVersionMigration is the row of storagemigration.k8s.io/v1 storageversionmigrations.
func StorageVersionMigration() *Kind {
	k := kubernetes[storagemigrationv1.StorageVersionMigration, storagemigrationv1.StorageVersionMigrationList](Names{
		Resource: StorageVersionMigrations, Singular: "storageversionmigration",
		GVK: storagemigrationv1.SchemeGroupVersion.WithKind("StorageVersionMigration"),
	}, storagemigration.Strategy, storagemigration.StatusStrategy).withoutEffect("objects stay in the version in which they were stored until they are written")
	k.Table = Printer{
		Columns: []metav1.TableColumnDefinition{
			column("Name", "string", metav1.ObjectMeta{}.SwaggerDoc()["name"]), column("Resource", "string", "GroupResource to migrate"),
			column("Status", "string", "Status of the migration"),
		},
		Cells: prints(func(m *storagemigrationv1.StorageVersionMigration, _ time.Time) []any {
			return []any{m.Name, m.Spec.Resource.String(), migrationState(m)}
		}),
	}
	return k
}

func migrationState(m *storagemigrationv1.StorageVersionMigration) string {
	state := "Unknown"
	for i := range m.Status.Conditions {
		c := &m.Status.Conditions[i]
		if c.Status != metav1.ConditionTrue {
			continue
		}
		switch storagemigrationv1.MigrationConditionType(c.Type) {
		case storagemigrationv1.MigrationRunning, storagemigrationv1.MigrationFailed, storagemigrationv1.MigrationSucceeded:
			state = c.Type
		}
	}
	return state
}
