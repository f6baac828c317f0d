# One bucket: bundles/ (the program), data/ (pinned data sets), runs/ (checkpoints).

resource "google_storage_bucket" "this" {
  # checkov:skip=CKV_GCP_62:Access logs are a bucket of their own, which your project may have already.
  project                     = var.project
  name                        = "${var.name}-${var.project}"
  location                    = upper(var.region)
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = var.destroy_bucket
  labels                      = local.labels

  versioning {
    enabled = true
  }

  # Parts that a machine was uploading when it was taken.
  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 2
    }
  }

  # Checkpoints that retention removed.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.keep_noncurrent_days
      with_state                 = "ARCHIVED"
    }
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }
}

locals {
  bundle_sha256 = filesha256(var.bundle)
  objects       = "projects/_/buckets/${google_storage_bucket.this.name}/objects"
}

# Named by its digest: a machine that starts while another bundle is put there gets the one that it was promised.
resource "google_storage_bucket_object" "bundle" {
  bucket = google_storage_bucket.this.name
  name   = "bundles/${substr(local.bundle_sha256, 0, 16)}/${basename(var.bundle)}"
  source = var.bundle

  lifecycle {
    create_before_destroy = true
  }
}
