package nginxproxy

import (
	"regexp/syntax"
	"slices"
	"strings"
)

// maxNames bounds the names that one regular expression stands for.
const maxNames = 32

// names are the host names that a regular expression stands for, if these are few, or names
// with * in front or behind where the expression takes everything there.
func names(expr string) ([]string, bool) {
	re, err := syntax.Parse(expr, syntax.Perl)
	if err != nil || len(expr) > maxExpression {
		return nil, false
	}
	all, ok := texts(re)
	if !ok {
		return nil, false
	}
	for i, text := range all {
		name, begins := strings.CutPrefix(text, "^")
		if !begins {
			name = "*" + strings.TrimPrefix(name, "*")
		}
		name, ends := strings.CutSuffix(name, "$")
		if !ends {
			name = strings.TrimSuffix(name, "*") + "*"
		}
		one, err := plainHost(name)
		if err != nil || len(one) != 1 {
			return nil, false
		}
		all[i] = one[0]
	}
	slices.Sort(all)
	return slices.Compact(all), true
}

// texts are the texts that re matches, if these are few. In them ^ and $ are the begin and
// the end, and * is any text.
func texts(re *syntax.Regexp) ([]string, bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpBeginText:
		return []string{"^"}, true
	case syntax.OpEndText:
		return []string{"$"}, true
	case syntax.OpLiteral:
		text := strings.ToLower(string(re.Rune))
		return []string{text}, !strings.ContainsAny(text, "*^$")
	case syntax.OpCharClass:
		return characters(re)
	case syntax.OpCapture:
		if re.Name != "" { // it might be meant for a snippet
			return nil, false
		}
		return texts(re.Sub[0])
	case syntax.OpStar, syntax.OpPlus:
		return []string{"*"}, anyCharacter(re.Sub[0])
	case syntax.OpConcat:
		return join(re.Sub)
	case syntax.OpQuest:
		return repeat(re.Sub[0], 0, 1)
	case syntax.OpRepeat:
		return repeat(re.Sub[0], re.Min, re.Max)
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			some, ok := texts(sub)
			if all = append(all, some...); !ok || len(all) > maxNames {
				return nil, false
			}
		}
		return all, true
	}
	return nil, false
}

// characters are those of a class.
func characters(class *syntax.Regexp) (all []string, ok bool) {
	for i := 0; i < len(class.Rune); i += 2 {
		for r := class.Rune[i]; r <= class.Rune[i+1]; r++ {
			if len(all) == maxNames || strings.ContainsRune("*^$", r) {
				return nil, false
			}
			all = append(all, strings.ToLower(string(r)))
		}
	}
	return all, true
}

// anyCharacter reports whether re matches whatever a host name is made of. A dot may be
// missing: then the name with * covers names with more dots too.
func anyCharacter(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return true
	case syntax.OpCharClass:
		for _, r := range "abcdefghijklmnopqrstuvwxyz0123456789-" {
			if !slices.ContainsFunc(slices.Collect(slices.Chunk(re.Rune, 2)), func(pair []rune) bool { return pair[0] <= r && r <= pair[1] }) {
				return false
			}
		}
		return true
	}
	return false
}

// join are the texts of parts that follow one another.
func join(parts []*syntax.Regexp) ([]string, bool) {
	all := []string{""}
	for _, part := range parts {
		some, ok := texts(part)
		if !ok || len(all)*len(some) > maxNames {
			return nil, false
		}
		var longer []string
		for _, begin := range all {
			for _, end := range some {
				longer = append(longer, begin+end)
			}
		}
		all = longer
	}
	return all, true
}

// repeat are the texts of a part that is there lo to hi times.
func repeat(part *syntax.Regexp, lo, hi int) (all []string, ok bool) {
	if hi < 0 || hi > maxNames {
		return nil, false
	}
	for n := lo; n <= hi; n++ {
		some, ok := join(slices.Repeat([]*syntax.Regexp{part}, n))
		if all = append(all, some...); !ok || len(all) > maxNames {
			return nil, false
		}
	}
	return all, true
}
