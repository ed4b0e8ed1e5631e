"""Chains of searched blocks: FBNet, ProxylessNAS, MdeNAS' mobile space, MnasNet and single-path one-shot."""
