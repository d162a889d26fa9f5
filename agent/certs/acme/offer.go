package acme

import (
	"context"
	"maps"
	"slices"
)

// Offer asks a CA which profiles it has, sorted, at most 20, and whether it wants accounts to be bound
// to one of its own (RFC 8555, section 7.3.4).
func (ca *CA) Offer(ctx context.Context) (profiles []string, binding bool, err error) {
	err = ca.session(ctx, 2, func(ctx context.Context, s session) error {
		dir, err := s.GetDirectory(ctx)
		if err != nil || dir.Meta == nil {
			return err
		}
		profiles, binding = slices.Sorted(maps.Keys(dir.Meta.Profiles)), dir.Meta.ExternalAccountRequired
		profiles = profiles[:min(len(profiles), 20)]
		return nil
	})
	return profiles, binding, err
}
