// Package observe collects what happens on a cluster: every pod's log from its first line, every event, and a dump of a
// namespace. It judges nothing; package verdict does.
//
// Times are those of whoever wrote them. On a cluster that the suite puts up, node, API server and suite share one clock, so
// times of different sources compare. On an external cluster they are as far apart as the machines' clocks.
package observe
