"""Offline: simulate, import, export, replay, label, train, publish. No part of serving."""
