// Package nginx says how nginx should look: it renders a table of routes into
// the files of one configuration, and holds the values that describe an nginx
// binary and a running nginx. It touches nothing; package install puts the
// files live.
package nginx
