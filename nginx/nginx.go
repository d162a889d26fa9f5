// Package nginx renders a table of routes into the files of one nginx configuration,
// and has the values that describe an nginx binary and a running nginx. It does no I/O;
// package apply makes nginx serve the files.
package nginx
