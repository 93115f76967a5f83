attention = dict(type='ELA', variant='B')
