attention = dict(type='SA', groups=64)
