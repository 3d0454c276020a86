"""A family of tests: the nearest of one learnt point a class, certified in the l_2 norm."""
