# `packer init packaging/ami` installs what nagaya.pkr.hcl is built with.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.0, < 2.0.0"
    }
  }
}
