package credit

// Stop returns the bank of an instance that is stopped or terminated, and what that costs: a surplus is
// charged at once, and a T2 loses all it has. A reboot is no stop and changes nothing.
func (b Bank) Stop() (Bank, Account) {
	a := Account{Charged: b.Surplus}
	b.Surplus = 0
	if b.Spec.T2() {
		a.Discarded = b.Balance + b.Launch
		b.Balance, b.Launch = 0, 0
	}
	return b, a
}

// Dollars a vCPU-hour of surplus costs with Linux (EC2 User Guide, "Unlimited mode
// examples"; EC2 price list for T4g). Windows costs about twice as much.
const (
	surplusPrice    = 0.05
	surplusPriceT4g = 0.04
)

// SurplusPrice is what a vCPU-hour of surplus costs on the type, in US dollars with Linux.
func (s Spec) SurplusPrice() float64 {
	if s.T4g() {
		return surplusPriceT4g
	}
	return surplusPrice
}
