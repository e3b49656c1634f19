// Package observe sees what happened on a cluster, on one clock: the API
// server's audit log, every pod's log from its first line, every event, and a
// dump of a namespace. It judges nothing; package verdict does.
//
// All times are those of the machine that runs kind: node, API server and test
// process share one kernel clock, so times of different sources compare.
package observe
