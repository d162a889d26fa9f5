// Package simaws is a simulated AWS cloud that speaks the real wire protocols:
// the EC2 query protocol, CloudWatch's smithy RPC v2 CBOR, the JSON protocols
// of ECS and AWS Batch, the REST XML protocols of S3 and Route 53, IMDSv2, and the introspection API of the ECS agent. An
// unmodified AWS SDK is pointed at it with the SDK's own settings
// (AWS_ENDPOINT_URL_EC2 and so on, AWS_EC2_METADATA_SERVICE_ENDPOINT).
//
// A [World] is the state and what couples it: an association shows in the
// instance's metadata, CPU use becomes credits, credits become CloudWatch
// datapoints. [Serve] opens the endpoints of a World on loopback. What the real
// cloud does wrong now and then (throttling, late points, lost answers, stale
// reads, a role that is not known yet) happens here only when a [Fault] or the
// [Conditions] ask for it; the one exception is that datapoints come unordered,
// as they always do.
//
// It shares no code with what it is used to test, and is never part of the
// shipped program.
package simaws
