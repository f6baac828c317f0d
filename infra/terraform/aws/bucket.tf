# One bucket: bundles/ (the program), data/ (pinned data sets), runs/ (checkpoints).

resource "aws_s3_bucket" "this" {
  # checkov:skip=CKV_AWS_18:Access logs are a bucket of their own, which your account may have already.
  # checkov:skip=CKV_AWS_144:Checkpoints stay in the region that they were written in.
  # checkov:skip=CKV2_AWS_62:Nobody waits for events of this bucket.
  # checkov:skip=CKV_AWS_145:Encrypted with the key that kms_key_arn names, else with S3's own.
  bucket        = "${var.name}-${local.account}-${local.region}"
  force_destroy = var.destroy_bucket
  tags          = local.tags
}

resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id
  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm     = var.kms_key_arn == null ? "AES256" : "aws:kms"
      kms_master_key_id = var.kms_key_arn
    }
    bucket_key_enabled = var.kms_key_arn != null
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "this" {
  bucket = aws_s3_bucket.this.id
  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  # Parts that a machine was uploading when it was taken.
  rule {
    id     = "incomplete-uploads"
    status = "Enabled"
    filter {}
    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }
  }

  # Checkpoints that retention removed.
  rule {
    id     = "noncurrent-versions"
    status = "Enabled"
    filter {}
    noncurrent_version_expiration {
      noncurrent_days = var.keep_noncurrent_days
    }
    expiration {
      expired_object_delete_marker = true
    }
  }

  depends_on = [aws_s3_bucket_versioning.this]
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "EncryptedConnectionsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]
    principals {
      type        = "*"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = aws_s3_bucket.this.id
  policy     = data.aws_iam_policy_document.bucket.json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

locals {
  bundle_sha256 = filesha256(var.bundle)
}

# Named by its digest: a machine that starts while another bundle is put there gets the one that it was promised.
resource "aws_s3_object" "bundle" {
  # checkov:skip=CKV_AWS_186:Encrypted as its bucket is.
  bucket = aws_s3_bucket.this.id
  key    = "bundles/${substr(local.bundle_sha256, 0, 16)}/${basename(var.bundle)}"
  source = var.bundle
  tags   = local.tags

  lifecycle {
    create_before_destroy = true
  }
}
