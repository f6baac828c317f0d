//! Puts the text together: files, then the commands that start what they are for.

use crate::quote::{environment, yaml, yaml_block};
use crate::{Boot, PEER_PORT};

/// A file of `infra/vm`, and where it lies on a machine.
struct File {
    path: &'static str,
    permissions: &'static str,
    text: &'static str,
}

const FILES: [File; 4] = [
    File { path: "/usr/local/lib/trainctl/boot.sh", permissions: "0755", text: include_str!("../../vm/boot.sh") },
    File {
        path: "/etc/systemd/system/trainctl-worker.service",
        permissions: "0644",
        text: include_str!("../../vm/trainctl-worker.service"),
    },
    File {
        path: "/etc/systemd/system/trainctl-watch.service",
        permissions: "0644",
        text: include_str!("../../vm/trainctl-watch.service"),
    },
    File {
        path: "/etc/systemd/system/trainctl-watch.timer",
        permissions: "0644",
        text: include_str!("../../vm/trainctl-watch.timer"),
    },
];

/// The user data of one machine, shorter than [`crate::USER_DATA_BYTES_MAX`] as long as the values in `boot` are
/// shorter than 8 KiB together.
#[must_use]
pub fn cloud_config(boot: &Boot) -> String {
    let mut text =
        String::from("#cloud-config\n# Written by trainctl. Starts one worker, and ends the machine after it.\n");
    text.push_str("write_files:\n");
    // The only one that differs from machine to machine, and the only one with a secret.
    text.push_str("  - path: /etc/trainctl/machine.env\n    permissions: \"0600\"\n    content: ");
    text.push_str(&yaml(&environment_file(boot)));
    text.push('\n');
    for File { path, permissions, text: content } in &FILES {
        let content = yaml_block(content, 6);
        text.push_str(&format!("  - path: {path}\n    permissions: \"{permissions}\"\n    content: {content}"));
    }
    text.push_str("runcmd:\n  - [systemctl, daemon-reload]\n");
    text.push_str("  - [systemctl, start, --no-block, trainctl-watch.timer, trainctl-worker.service]\n");
    text
}

fn environment_file(boot: &Boot) -> String {
    let minutes = boot.orphan_minutes.max(1).to_string();
    let port = PEER_PORT.to_string();
    let mut variables = vec![
        ("TRAINCTL_CLUSTER", boot.cluster.as_str()),
        ("TRAINCTL_INSTANCE", boot.instance.0.as_str()),
        ("TRAINCTL_WORKER_ID", boot.worker.0.as_str()),
        ("TRAINCTL_COORDINATOR_URL", boot.coordinator_url.as_str()),
        ("TRAINCTL_WORKER_TOKEN", boot.join_token.as_str()),
        ("TRAINCTL_BUNDLE_URI", boot.bundle_uri.as_str()),
        ("TRAINCTL_BUNDLE_DIGEST", boot.bundle_digest.as_str()),
        ("TRAINCTL_NOTICES", boot.notices.as_str()),
        ("TRAINCTL_ORPHAN_MINUTES", minutes.as_str()),
        ("TRAINCTL_PEER_PORT", port.as_str()),
    ];
    variables.extend(boot.certificate.as_deref().map(|certificate| ("TRAINCTL_CERTIFICATE", certificate)));
    variables.iter().map(|(name, value)| format!("{name}={}\n", environment(value))).collect()
}
