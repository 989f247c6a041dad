"""What each loss adds, and what other methods reach on the same data: tables 6 and 8 of the paper."""
