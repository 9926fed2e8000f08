"""Tests of documents: what they show and tell to do."""
