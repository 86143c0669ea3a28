"""How fast, how good and how small the course is, beside others: `make bench`. No part of the tests."""
