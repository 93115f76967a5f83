attention = dict(type='SGE', groups=8)
