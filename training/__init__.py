"""Offline: simulate, import, export, replay, label, train, publish. Never imported by the service."""
