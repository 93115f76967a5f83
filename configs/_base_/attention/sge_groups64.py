attention = dict(type='SGE', groups=64)
