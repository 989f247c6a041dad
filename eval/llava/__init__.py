"""Answers of a LLaVA to GQA, POPE, RefCOCO and MMBench, and their scores (paper, tables 5 and 9)."""
