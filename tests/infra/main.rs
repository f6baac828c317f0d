//! What is deployed, with the tools that deploy it: the real terraform, on an EC2 that stands in for Amazon's and
//! against the schema of Google's provider, and the policies of checkov. Where a tool can't be had its tests say that they are
//! skipped.

mod aws;
mod gcp;
mod policy;
mod terraform;
